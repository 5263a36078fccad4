//! What the page of a job offers.

use super::{world::running_job, *};

#[tokio::test]
async fn a_job_is_cancelled_begun_again_and_compared() {
    let console = console().await;
    let ada = console.sign_in("administrator").await;
    let running = format!("/jobs/{}", running_job());
    let page = console.get(&ada, &running).await.body;
    assert!(page.contains(&format!("{running}/cancel")), "{page}");
    let viewer = console.sign_in("viewer").await;
    assert!(!console.get(&viewer, &running).await.body.contains("/cancel"));
    let refused = console.post(&viewer, &format!("{running}/cancel"), "").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    let asked = console.get(&ada, &format!("{running}/cancel")).await.body;
    assert!(asked.contains("is undone, as after a failure"), "{asked}");
    let answer = console.post(&ada, &format!("{running}/cancel"), "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let sagas = console.hub.store.sagas_of_job(&running_job()).await.unwrap();
    assert_eq!(sagas[0].cancelled_by.as_deref(), Some("administrator"));
    let page = console.get(&ada, &running).await.body;
    assert!(
        !page.contains(&format!("{running}/cancel")) && page.contains("JOB_CANCEL"),
        "{page}"
    );
    // A second click is no fault of whoever clicks.
    let again = console.post(&ada, &format!("{running}/cancel"), "").await;
    assert_eq!(again.header(header::LOCATION), running);

    let failed = console.get(&ada, &format!("/jobs/{}", failed_job())).await.body;
    assert!(failed.contains("/bulk?action="), "{failed}");
}
