use local_stores::scratch::empty_database;

use crate::support::{Deployment, execute, fill, new_role, number, votes};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_gets_the_schema_and_whoever_asks_again_gets_the_same_answer() {
    let url = empty_database().await.unwrap();
    let mut deployment = Deployment::of(&url, &new_role()).await;
    let first = deployment.ask("Create").await;
    assert_eq!((&first["Status"], &first["Data"]["Version"]), (&"SUCCESS".into(), &1.into()), "{first}");
    fill(&url).await;
    for kind in ["Update", "Create"] {
        let again = deployment.ask(kind).await;
        assert_eq!((&again["Status"], &again["Data"]), (&first["Status"], &first["Data"]), "{again}");
    }
    assert_eq!(votes(&url).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_at_once_one_does_the_work_and_both_succeed() {
    let url = empty_database().await.unwrap();
    let mut deployment = Deployment::of(&url, &new_role()).await;
    for answer in deployment.ask_twice("Create").await {
        assert_eq!(
            (&answer["Status"], &answer["Data"]["Version"]),
            (&"SUCCESS".into(), &1.into()),
            "{answer}"
        );
    }
    assert_eq!(number(&url, "SELECT count(*) FROM _sqlx_migrations").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_release_that_is_deployed_finds_a_later_schema_and_leaves_it() {
    let url = empty_database().await.unwrap();
    let mut deployment = Deployment::of(&url, &new_role()).await;
    deployment.ask("Create").await;
    fill(&url).await;
    let later = "CREATE TABLE sequels (poll integer PRIMARY KEY); \
                 INSERT INTO sequels VALUES (1); \
                 INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'sequels', true, '\\x00', 1)";
    execute(&url, later).await.unwrap();
    let answer = deployment.ask("Update").await;
    assert_eq!(
        (&answer["Status"], &answer["Data"]["Version"]),
        (&"SUCCESS".into(), &9999.into()),
        "{answer}"
    );
    assert_eq!(number(&url, "SELECT count(*) FROM sequels").await, 1);
    assert_eq!(votes(&url).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_stack_deletes_no_vote() {
    let url = empty_database().await.unwrap();
    let mut deployment = Deployment::of(&url, &new_role()).await;
    deployment.ask("Create").await;
    fill(&url).await;
    let answer = deployment.ask("Delete").await;
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    assert_eq!(votes(&url).await, 1);
}
