use super::*;

fn config() -> PagesConfig {
    PagesConfig {
        api: String::new(),
        issuer: "http://issuer".to_owned(),
        client_id: "votes".to_owned(),
        scope: "openid".to_owned(),
        crew_scope: "openid admin".to_owned(),
        results: None,
        crew: Vec::new(),
    }
}

fn assembled(files: &[(&str, &str)]) -> Result<Vec<Page>> {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    assemble(folder.path(), &config())
}

#[test]
fn a_page_names_what_its_files_hold() {
    let of = |helper: &str| {
        let pages = assembled(&[
            ("index.html", r#"<script src="/app.js"></script><a href="/control/index.html">"#),
            ("app.js", "import '/lib/helper.js';"),
            ("lib/helper.js", helper),
            ("control/index.html", "<p>"),
            ("tests/app.js", "not published"),
        ]);
        let pages = pages.unwrap();
        let page = pages.iter().find(|page| page.key == "index.html").unwrap().clone();
        let app = pages.iter().find(|page| page.key.starts_with("app.")).unwrap().clone();
        assert!(pages.iter().all(|page| !page.key.starts_with("tests")));
        assert!(String::from_utf8_lossy(&page.body).contains(&format!("\"/{}\"", app.key)));
        assert!(String::from_utf8_lossy(&page.body).contains("\"/control/index.html\""));
        assert_eq!((page.cache_control, app.cache_control), (A_MINUTE, FOR_EVER));
        let at = |key: &str| pages.iter().position(|page| page.key == key);
        assert!(at("index.html") > at(&app.key), "a page must come after the files that it refers to");
        app.key
    };
    // A change of a file changes the names of all files that refer to it, up to the page.
    assert_eq!(of("1"), of("1"));
    assert_ne!(of("1"), of("2"));
}

#[test]
fn what_cannot_be_published_is_named() {
    let circle = assembled(&[("a.js", "import '/b.js'"), ("b.js", "import '/a.js'")]).unwrap_err();
    assert!(circle.to_string().contains("refers to itself"), "{circle}");
    let odd = assembled(&[("a.exe", "")]).unwrap_err();
    assert!(odd.to_string().contains("/a.exe"), "{odd}");
}

#[test]
fn the_icon_keeps_the_name_that_browsers_ask_for() {
    let pages =
        assembled(&[("index.html", ""), ("favicon.ico", "icon"), ("shared/icon.svg", "<svg/>")]).unwrap();
    let icon = pages.iter().find(|page| page.key == "favicon.ico").unwrap();
    assert_eq!((icon.content_type, icon.cache_control), ("image/x-icon", A_DAY));
    assert!(pages.iter().all(|page| page.key != "shared/icon.svg"));
}

#[test]
fn the_configuration_is_beside_the_pages() {
    let pages = assembled(&[("index.html", "")]).unwrap();
    let config = pages.iter().find(|page| page.key == "config.json").unwrap();
    let value: serde_json::Value = serde_json::from_slice(&config.body).unwrap();
    assert_eq!((&value["clientId"], &value["results"]), (&"votes".into(), &serde_json::Value::Null));
}

#[test]
fn comments_are_not_published() {
    let source = "// Why.\nconst a = 1; // not on its own\n\n/**\n * What.\n */\n  f();\n/* One. */\n";
    assert_eq!(without_comments("/a.js", source), "const a = 1; // not on its own\nf();\n");
    assert_eq!(without_comments("/a.html", source), source);
    let style = "/* Why. */\na,\nb {\n  transition:\n    color 1s,\n    opacity 1s;\n}\n";
    assert_eq!(without_comments("/a.css", style), "a,b{transition:\ncolor 1s,opacity 1s;}");
}
