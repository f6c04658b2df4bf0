//! Providers with one bug each.

mod mutant;

use std::collections::BTreeSet;
use std::sync::Arc;

use hivemind_storage::conformance::Fixture;

use self::mutant::{Bug, Mutant};
use super::failed;
use super::suite::Setup;

fn fixture(bug: Bug) -> Fixture {
    let setup = Setup::default();
    let memory = Arc::new(setup.provider());
    let mut fixture = setup.fixture_of(memory.clone());
    fixture.provider = Arc::new(Mutant::new(memory.clone(), bug));
    fixture.with_twin(Arc::new(Mutant::new(memory, bug)))
}

/// For some bugs, the case that is about just that.
const EXPECTED: &[(Bug, &str)] = &[
    (Bug::ForgetsTheTenant, "tenants_do_not_share_names"),
    (Bug::ForgetsTheGeneration, "generations_do_not_share_names"),
    (Bug::CutsNamesShort, "long_names_are_not_cut_short"),
    (Bug::CreatesByToken, "create_by_another_token_is_the_same_volume"),
    (Bug::ReturnsTheExistingWhateverIsAsked, "create_with_another_size_is_refused_and_changes_nothing"),
    (Bug::ForgetsTheSource, "clone_of_another_volume_is_refused"),
    (Bug::ForgetsEncryption, "create_with_encryption_is_kept"),
    (Bug::IgnoresThePlace, "a_volume_is_in_the_place_asked_for"),
    (Bug::RefusesToRepeatCreation, "create_is_idempotent"),
    (Bug::LeavesRefusedVolumes, "clone_of_a_missing_volume_is_not_found"),
    (Bug::DeletesWhatIsAttached, "delete_of_an_attached_volume_is_refused"),
    (Bug::FailsToDeleteWhatIsMissing, "delete_of_a_missing_volume_succeeds"),
    (Bug::DeletesWithoutDeleting, "delete_removes"),
    (Bug::AnswersForTheHandleAlone, "status_under_anothers_key_is_not_found"),
    (Bug::OneMissingSpoilsAllStatuses, "statuses_are_answered_each_for_itself"),
    (Bug::AnswersDoublesOnce, "statuses_of_many_are_those_of_each"),
    (Bug::PretendsToGrow, "expand_grows_and_repeats"),
    (Bug::Shrinks, "expand_to_less_changes_nothing"),
    (Bug::GrowsOnlyOnce, "expand_grows_and_repeats"),
    (Bug::StealsAttachments, "a_second_node_does_not_steal"),
    (Bug::SharesWhateverIsAsked, "a_volume_for_one_node_is_not_shared_by_asking"),
    (Bug::HasTwoWriters, "a_volume_of_a_single_writer_has_one_writer"),
    (Bug::AttachesOtherwiseInSilence, "attach_otherwise_is_refused"),
    (Bug::FailsToDetachWhatIsMissing, "detach_of_a_missing_volume_succeeds"),
    (Bug::DetachesFromEveryNode, "detach_from_another_node_leaves_it"),
    (Bug::TellsNoNodes, "attached_nodes_are_told"),
    (Bug::IgnoresEpochs, "an_older_epoch_is_refused"),
    (Bug::FencesWithoutKeepingOut, "fence_of_a_node_without_volumes_keeps_it_out"),
    (Bug::CutsSnapshotsAnew, "a_snapshot_outlives_later_writes"),
    (Bug::DeletesSnapshotsWithVolumes, "deleted_in_any_order_the_rest_keeps_its_content"),
    (Bug::RestoresWhatIsAttached, "restore_of_an_attached_volume_is_refused"),
    (Bug::RestoresNothing, "restore_gives_the_content_back"),
    (Bug::TakesPartsOfGroups, "group_with_a_missing_volume_takes_nothing"),
    (Bug::DeletesGroupsWithoutSnapshots, "group_is_deleted_as_a_whole"),
    (Bug::ClonesEmpty, "clone_has_the_content"),
    (Bug::ClonesAcrossTenants, "clone_across_tenants_is_not_found"),
    (Bug::PagesByNumber, "list_keeps_its_place_while_volumes_go"),
    (Bug::ListsTheLastTwice, "list_pages_without_gaps_or_doubles"),
    (Bug::AcceptsAnyCursor, "list_refuses_a_foreign_cursor"),
    (Bug::ReportsUnsupportedButActs, "without_clone_none_is_made"),
    (Bug::SupportsWhatItDoesNotClaim, "without_expand_nothing_grows"),
    (Bug::LeaksSecretsInErrors, "secrets_of_refused_creations_are_not_told"),
    (Bug::CountsNothing, "metrics_count_volumes"),
    (Bug::HasAlwaysRoom, "more_than_there_is_room_for_is_refused"),
    (Bug::TellsNoCondition, "status_tells_the_condition"),
    (Bug::ForgetsAtRestart, "create_survives_a_restart"),
];

#[test]
fn each_bug_of_a_provider_is_found_by_the_case_about_it() {
    assert_eq!(failed(|| fixture(Bug::None)), BTreeSet::new(), "the mutant itself is wrong");
    let mut survivors = Vec::new();
    for (bug, expected) in EXPECTED {
        let found = failed(|| fixture(*bug));
        if !found.contains(expected) {
            survivors.push((*bug, *expected, found));
        }
    }
    assert_eq!(survivors, vec![]);
}
