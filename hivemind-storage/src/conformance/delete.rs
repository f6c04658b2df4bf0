//! What becomes of what is deleted, what is said of what is there, and what is not.

use hivemind_core::ErrorKind;
use hivemind_core::resources::ByteSize;

use super::support::*;
use super::{Fixture, Need};
use crate::{Capability, VolumeCondition, VolumeHandle, VolumeStatus};

cases! {
    delete_removes,
    delete_of_a_missing_volume_succeeds,
    delete_succeeds_whatever_the_handle_looks_like,
    delete_leaves_others_alone,
    delete_of_an_attached_volume_is_refused needs [ATTACH],
    delete_under_anothers_key_leaves_it_alone needs [Need::Keys],
    status_of_a_missing_volume_is_not_found,
    status_under_anothers_key_is_not_found needs [Need::Keys],
    statuses_are_answered_each_for_itself,
    statuses_of_many_are_those_of_each,
    statuses_of_nothing_are_nothing,
    status_tells_the_condition needs [Need::Capability(Capability::Condition)],
    metrics_count_volumes,
    metrics_count_snapshots needs [SNAPSHOTS],
    modify_repeats needs [MODIFY],
    modify_of_a_missing_volume_is_not_found needs [MODIFY],
    modify_under_anothers_key_is_not_found needs [MODIFY, Need::Keys],
}

async fn delete_removes(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.delete(&volume).await?;
    refused(f.status(&volume).await, ErrorKind::NotFound)?;
    check(f.count().await? == 0, "it still counts")?;
    Ok(f.delete(&volume).await?)
}

async fn delete_of_a_missing_volume_succeeds(f: Fixture) -> Outcome {
    Ok(f.delete(&nowhere()?).await?)
}

async fn delete_succeeds_whatever_the_handle_looks_like(f: Fixture) -> Outcome {
    let kept = f.volume("kept").await?;
    let long = "x".repeat(128);
    for text in ["-", "--help", "..", "../kept", "/", "a b", "%2e%2e", "vol-", "Ü", "{}", long.as_str()] {
        let mut odd = nowhere()?;
        odd.handle = VolumeHandle::new(text)?;
        f.delete(&odd).await.map_err(|e| Why(format!("handle {text:?}: {e}")))?;
    }
    f.status(&kept).await?;
    Ok(())
}

async fn delete_leaves_others_alone(f: Fixture) -> Outcome {
    let (one, other) = (f.volume("data").await?, f.volume("data-2").await?);
    f.delete(&one).await?;
    f.status(&other).await?;
    check(f.count().await? == 1, "there is not just the other one")
}

async fn delete_of_an_attached_volume_is_refused(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.attach(&volume, &f.nodes[0]).await?;
    refused(f.delete(&volume).await, ErrorKind::Conflict)?;
    f.status(&volume).await?;
    f.detach(&volume, &f.nodes[0]).await?;
    f.delete(&volume).await?;
    refused(f.status(&volume).await, ErrorKind::NotFound)
}

async fn delete_under_anothers_key_leaves_it_alone(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    f.delete(&foreign(&volume)?).await?;
    f.status(&volume).await?;
    Ok(())
}

async fn status_of_a_missing_volume_is_not_found(f: Fixture) -> Outcome {
    refused(f.status(&nowhere()?).await, ErrorKind::NotFound)
}

async fn status_under_anothers_key_is_not_found(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    refused(f.status(&foreign(&volume)?).await, ErrorKind::NotFound)
}

async fn statuses_are_answered_each_for_itself(f: Fixture) -> Outcome {
    let (one, other) = (f.volume("data").await?, f.volume("other").await?);
    let answers = f.provider.get_volume_statuses(&[one.clone(), nowhere()?, other.clone()]).await?;
    let [Ok(first), Err(missing), Ok(last)] = answers.as_slice() else {
        return Err(Why("not an answer for each, in their order".to_owned()));
    };
    check(first.handle == one.handle && last.handle == other.handle, "the answers are mixed up")?;
    check(missing.kind() == ErrorKind::NotFound, "what is missing is not NotFound")?;
    check(*first == f.status(&one).await?, "the answer is another one than for the volume alone")
}

async fn statuses_of_many_are_those_of_each(f: Fixture) -> Outcome {
    let mut asked = vec![nowhere()?];
    for number in 0..7 {
        let tenant = if number % 2 == 0 { "acme" } else { "globex" };
        asked.push(f.create(&key(tenant, 1, &format!("v{number}"))?).await?.volume);
    }
    if let [_, attached, _, deleted, ..] = asked.as_slice() {
        f.delete(deleted).await?;
        if f.has(Capability::Attach) {
            f.attach(attached, &f.nodes[0]).await?;
        }
    }
    // In another order than any list has, and some of them twice.
    let twice: Vec<_> = asked.iter().step_by(5).cloned().collect();
    asked.extend(twice);
    asked.reverse();
    let answers = f.provider.get_volume_statuses(&asked).await?;
    check(answers.len() == asked.len(), "not as many answers as questions")?;
    for (volume, answer) in asked.iter().zip(answers) {
        match (f.status(volume).await, answer) {
            (Ok(alone), Ok(together)) => check(alone == together, "the answer is another one than alone")?,
            (Err(alone), Err(together)) => check(alone.kind() == together.kind(), "it is another error")?,
            _ => return Err(Why(format!("volume {} is answered otherwise than alone", volume.key))),
        }
    }
    Ok(())
}

async fn statuses_of_nothing_are_nothing(f: Fixture) -> Outcome {
    check(f.provider.get_volume_statuses(&[]).await?.is_empty(), "there are answers without questions")
}

async fn status_tells_the_condition(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let condition = f.status(&volume).await?.condition;
    check(condition == VolumeCondition::Normal, "a new volume's condition is not told, or not normal")
}

async fn metrics_count_volumes(f: Fixture) -> Outcome {
    let before = f.provider.get_provider_metrics().await?;
    let made = f.create(&ours("data")?).await?;
    let after = f.provider.get_provider_metrics().await?;
    check(after.volumes == before.volumes + 1, "the new volume is not counted")?;
    let grown = after.provisioned.saturating_sub(before.provisioned);
    check(made.size == ByteSize::ZERO || grown >= made.size, "its size does not show")?;
    f.delete(&made.volume).await?;
    check(f.provider.get_provider_metrics().await?.volumes == before.volumes, "it counts once deleted")
}

async fn metrics_count_snapshots(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let before = f.provider.get_provider_metrics().await?.snapshots;
    let taken = f.snapshot(&volume, "s1").await?;
    check(f.provider.get_provider_metrics().await?.snapshots == before + 1, "it is not counted")?;
    f.drop_snapshot(&taken).await?;
    check(f.provider.get_provider_metrics().await?.snapshots == before, "it counts once deleted")
}

async fn modify(f: &Fixture, volume: &crate::VolumeRef) -> hivemind_core::Result<()> {
    let (token, parameters) = (hivemind_core::OpToken::new("modify"), [f.modification.clone()].into());
    f.settle(|| f.provider.modify_volume(&token, volume, &parameters)).await
}

async fn modify_repeats(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    let before = f.status(&volume).await?;
    modify(&f, &volume).await?;
    modify(&f, &volume).await?;
    // What it is like may be told, and then it tells of the change.
    let after = f.status(&volume).await?;
    check(after.options.is_some() == before.options.is_some(), "it tells what it is like, or does not")?;
    let same = VolumeStatus { options: None, ..after } == VolumeStatus { options: None, ..before };
    check(same, "it is another volume now")
}

async fn modify_of_a_missing_volume_is_not_found(f: Fixture) -> Outcome {
    refused(modify(&f, &nowhere()?).await, ErrorKind::NotFound)
}

async fn modify_under_anothers_key_is_not_found(f: Fixture) -> Outcome {
    let volume = f.volume("data").await?;
    refused(modify(&f, &foreign(&volume)?).await, ErrorKind::NotFound)
}
