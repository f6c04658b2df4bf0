//! Users, passwords, roles, and tokens that expire.

use etcd_client::{Client, Permission};
use hivemind_core::store::Revision;
use hivemind_core::{Effect, ErrorKind, EtcdStore, StateStore, block_on};

use crate::server::Server;
use crate::support::{connect, fresh_prefix, options, read, told, txn, wait, watch, write};

/// An etcd that knows `root`, and `app`, who may do anything below `prefix`.
fn guarded_server(prefix: &str) -> Option<Server> {
    // The shortest time a token can live.
    let server = Server::start(&["--auth-token", "simple", "--auth-token-ttl", "1"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = Client::connect([server.endpoint()], None).await.unwrap();
        client.user_add("root", "root-secret", None).await.unwrap();
        client.role_add("root").await.unwrap();
        client.user_grant_role("root", "root").await.unwrap();
        client.user_add("app", "app-secret", None).await.unwrap();
        client.role_add("app").await.unwrap();
        let below = Permission::read_write(format!("{prefix}:")).with_prefix();
        client.role_grant_permission("app", below).await.unwrap();
        client.user_grant_role("app", "app").await.unwrap();
        client.auth_enable().await.unwrap();
    });
    Some(server)
}

#[test]
fn a_user_may_do_what_its_role_allows() {
    let prefix = fresh_prefix();
    let Some(server) = guarded_server(&prefix) else { return };
    let base = options(&[server.endpoint()]).with_prefix(&prefix).unwrap();
    let refused = |options| {
        let error = wait("the connection", EtcdStore::connect(options)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        (error.kind(), error.effect())
    };
    let denied = (ErrorKind::Denied, Effect::NotStarted);
    assert_eq!(refused(base.clone()), denied, "nobody");
    assert_eq!(refused(base.clone().with_user("app", "wrong-secret")), denied, "a wrong password");
    assert_eq!(refused(base.clone().with_user("stranger", "secret")), denied, "a stranger");
    let elsewhere = base.clone().with_prefix(&fresh_prefix()).unwrap();
    assert_eq!(refused(elsewhere.with_user("app", "app-secret")), denied, "another namespace");

    let store = connect(&base.with_user("app", "app-secret"));
    let mut watch = watch(&store, Revision::ZERO);
    let first = write(&store, "+a=1");
    assert_eq!(told(&mut watch, first), [first]);
    assert_eq!(read(&store, "a").as_deref(), Some("1"));
}

#[test]
fn an_expired_token_is_renewed() {
    let prefix = fresh_prefix();
    let Some(server) = guarded_server(&prefix) else { return };
    let base = options(&[server.endpoint()]).with_prefix(&prefix).unwrap();
    let store = connect(&base.with_user("app", "app-secret"));
    let mut heard = watch(&store, Revision::ZERO);
    let mut expected = Vec::new();
    for n in 0..3 {
        // etcd looks for expired tokens each second.
        std::thread::sleep(std::time::Duration::from_millis(2500));
        expected.push(wait("the commit", store.commit(&txn(&format!("+a={n}")))).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(2500));
        assert_eq!(read(&store, "a"), Some(n.to_string()));
    }
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let mut late = watch(&store, Revision::ZERO);
    let last = *expected.last().unwrap();
    assert_eq!(told(&mut heard, last), expected);
    assert_eq!(told(&mut late, last), expected);
    block_on(store.revision()).unwrap();
}
