//! Authorization beside rs-tenant, casbin and Cedar:
//! `cargo bench --manifest-path examples/peers/Cargo.toml --bench authorize`.

use std::error::Error;

use peers::access::casbin::Casbin;
use peers::access::cedar::Cedar;
use peers::access::hivemind::Hivemind;
use peers::access::rs_tenant::RsTenant;
use peers::access::{Question, questions};
use peers::contest::Contest;

/// Fails if `decide` does not answer every question as it should.
fn check(who: &str, questions: &[Question], mut decide: impl FnMut() -> bool) -> Result<(), Box<dyn Error>> {
    match questions.iter().position(|question| decide() != question.expected()) {
        Some(at) => Err(format!("{who} answers question {at} wrongly: {:?}", questions[at]).into()),
        None => Ok(()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    for (bindings, asked) in [(10, 64), (100, 64), (1_000, 64), (100_000, 50_000), (1_000_000, 50_000)] {
        // From 100,000 bindings on the questions are as many as do not fit into a cache.
        let questions = questions(bindings, asked);
        let hivemind = Hivemind::new(bindings)?;
        let rs_tenant = RsTenant::new(bindings)?;
        check("hivemind", &questions, hivemind.asker(&questions)?)?;
        check("rs-tenant", &questions, rs_tenant.asker(&questions)?)?;

        let few = bindings <= 1_000;
        let casbin = few.then(|| Casbin::new(bindings)).transpose()?;
        let cedar = few.then(|| Cedar::new(bindings)).transpose()?;

        let mut contest = Contest::default();
        contest.add("hivemind, index", hivemind.asker(&questions)?);
        contest.add("rs-tenant, memory source, no cache", rs_tenant.asker(&questions)?);
        if let (Some(casbin), Some(cedar)) = (&casbin, &cedar) {
            check("casbin", &questions, casbin.asker(&questions))?;
            check("Cedar", &questions, cedar.asker(&questions)?)?;
            check("Cedar, sliced", &questions, cedar.sliced_asker(&questions)?)?;
            contest.add("casbin, RBAC with domains", casbin.asker(&questions));
            contest.add("Cedar, the whole set", cedar.asker(&questions)?);
            contest.add("Cedar, cut to the tenant by hand", cedar.sliced_asker(&questions)?);
        }
        contest.run(&format!("authorize, {bindings} bindings, half the questions across tenants"));
    }
    Ok(())
}
