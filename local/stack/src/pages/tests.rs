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
            ("app.js", "import { helper } from '/lib/helper.js'; console.log(helper, '/lib/texts.json');"),
            ("lib/helper.js", &format!("// Why.\nexport const helper = {helper};")),
            ("lib/texts.json", "{}"),
            ("control/index.html", "<p>"),
            ("tests/app.js", "not published"),
        ]);
        let pages = pages.unwrap();
        let page = pages.iter().find(|page| page.key == "index.html").unwrap().clone();
        let app = pages.iter().find(|page| page.key.starts_with("app.")).unwrap().clone();
        let texts = pages.iter().find(|page| page.key.ends_with(".json")).unwrap();
        let code = String::from_utf8_lossy(&app.body);
        assert!(code.contains(helper) && code.contains(&format!("\"/{}\"", texts.key)), "{code}");
        assert!(!code.contains("Why"), "comments are published: {code}");
        let others = ["tests", "lib/helper"];
        assert!(pages.iter().all(|page| !others.iter().any(|other| page.key.starts_with(other))));
        assert!(String::from_utf8_lossy(&page.body).contains(&format!("\"/{}\"", app.key)));
        assert!(String::from_utf8_lossy(&page.body).contains("\"/control/index.html\""));
        assert_eq!((page.cache_control, app.cache_control), (A_MINUTE, FOR_EVER));
        let at = |key: &str| pages.iter().position(|page| page.key == key);
        assert!(at("index.html") > at(&app.key), "a page must come after the files that it refers to");
        app.key
    };
    // A change of a file changes the name of the bundle that holds it.
    assert_eq!(of("1"), of("1"));
    assert_ne!(of("1"), of("2"));
}

#[test]
fn what_cannot_be_published_is_named() {
    let page = ("index.html", r#"<script src="/app.js"></script>"#);
    let missing = assembled(&[page, ("app.js", "import '/helper.js'")]).unwrap_err();
    assert!(missing.to_string().contains("/helper.js"), "{missing}");
    let newer = assembled(&[page, ("app.js", "await 1")]).unwrap_err();
    assert!(newer.to_string().contains("Top-level await"), "{newer}");
    let odd = assembled(&[("a.exe", "")]).unwrap_err();
    assert!(odd.to_string().contains("/a.exe"), "{odd}");
}

#[test]
fn third_party_files_are_published_unchanged() {
    let source = "/* A licence. */\nexport const one = 1;\n";
    let pages = assembled(&[
        ("index.html", r#"<script src="/app.js"></script><link href="/app.css">"#),
        ("app.js", "export const one = () => import('/vendor/one.js');"),
        ("app.css", "@import '/base.css';"),
        ("base.css", "@font-face { src: url('/fonts/one.woff2'); }"),
        ("vendor/one.js", source),
        ("vendor/one.txt", "The licence."),
        ("fonts/one.woff2", ""),
        ("fonts/one.txt", "Its licence."),
    ])
    .unwrap();
    let find = |stem: &str, end: &str| {
        let is_it = |page: &&Page| page.key.starts_with(stem) && page.key.ends_with(end);
        pages.iter().find(is_it).unwrap_or_else(|| panic!("{stem} is not published"))
    };
    let names = |bundle: &Page, file: &Page| String::from_utf8_lossy(&bundle.body).contains(&file.key);
    let vendor = find("vendor/one", ".js");
    assert_eq!(vendor.body, source);
    assert!(names(find("app", ".js"), vendor));
    assert!(names(find("app", ".css"), find("fonts/one", ".woff2")));
    find("vendor/one", ".txt");
    find("fonts/one", ".txt");
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
