//! Answers to repeated requests, and the audit log.

use super::*;

#[tokio::test]
async fn a_request_with_a_key_is_carried_out_once_and_its_answer_kept_for_a_day() {
    let kit = Kit::new().await;
    let question = Question { app: Some(kit.app.clone()), key: "k".into(), request: [1; 32] };
    let begin = async |question: &Question, now| kit.store.begin_answer(question, now).await;
    assert_eq!(begin(&question, at(0)).await.unwrap(), Begun::First);
    assert_eq!(begin(&question, at(1)).await.unwrap(), Begun::Unanswered { since: at(0) });
    let another = Question { request: [2; 32], ..question.clone() };
    assert!(matches!(begin(&another, at(1)).await, Err(StoreError::KeyReused)));
    let instances = Question { app: None, ..question.clone() };
    assert_eq!(begin(&instances, at(1)).await.unwrap(), Begun::First, "another owner's key is another key");
    let answer = Answer { status: 201, body: b"sealed".to_vec() };
    kit.store.end_answer(&question, Some(answer.clone())).await.unwrap();
    let kit = kit.reopen(at(2)).await;
    let begin = async |question: &Question, now| kit.store.begin_answer(question, now).await;
    assert_eq!(begin(&question, at(2)).await.unwrap(), Begun::Answered(answer));
    const DAY: i64 = 24 * 60 * 60 * 1000;
    assert_eq!(begin(&question, at(DAY)).await.unwrap(), Begun::First, "it is forgotten after a day");
    // Whoever worked on it may have died.
    assert_eq!(begin(&question, at(DAY + 60_000)).await.unwrap(), Begun::First);
    kit.store.end_answer(&question, None).await.unwrap();
    assert_eq!(begin(&another, at(DAY + 60_001)).await.unwrap(), Begun::First, "it may be tried anew");
    let expired = kit.store.expire(Expiry::Answers, at(DAY + 60_001), None, 10).await.unwrap();
    assert_eq!(expired.removed, 1, "the instance's is old");
}

#[tokio::test]
async fn the_audit_log_is_kept_by_owner_and_leaves_with_its_tenant() {
    let kit = Kit::new().await;
    let entry = |app: Option<AppId>, action: &str| -> Entry {
        Request::new(Actor::command_line(), action.into(), None).entry(kit.minter.mint(), app, at(0))
    };
    let own = entry(Some(kit.app.clone()), "own");
    let instances = entry(None, "instance's");
    for entry in [&own, &instances] {
        kit.store.write(vec![Write::Audit(Box::new(entry.clone()))], at(0)).await.unwrap();
    }
    let read = async |app| kit.store.audit(app, PageRequest::newest(10)).await.unwrap().rows;
    assert_eq!(read(Some(&kit.app)).await, std::slice::from_ref(&own));
    assert_eq!(read(None).await, std::slice::from_ref(&instances));
    let expire = async |app| kit.store.expire(Expiry::Audit(app), at(1), None, 10).await.unwrap().removed;
    assert_eq!(expire(None).await, 1);
    let question = Question { app: Some(kit.app.clone()), key: "k".into(), request: [1; 32] };
    kit.store.begin_answer(&question, at(0)).await.unwrap();
    kit.store.write(vec![Write::DeleteApp(kit.app.clone())], at(0)).await.unwrap();
    kit.erase().await;
    assert_eq!(read(Some(&kit.app)).await, []);
    assert_eq!(kit.store.begin_answer(&question, at(0)).await.unwrap(), Begun::First);
}
