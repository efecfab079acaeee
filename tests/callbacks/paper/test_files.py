import threading

from lit_rl.callbacks.paper import files as module
from lit_rl.callbacks.paper.files import HEADERS, PaperFiles, claim_directory


def test_the_columns_are_those_of_the_documents():
    assert HEADERS == {
        "episode_rewards": "episode,env_id,total_reward,episode_length,timestamp,env_component,"
        "team_disc_component,ind_disc_component",
        "sync_metrics": "policy_version,samples_collected,collection_time,update_time,sync_efficiency",
        "reward_components": "step,env_id,component,value",
    }


def test_a_directory_without_a_readable_summary_belongs_to_nobody(tmp_path):
    files = PaperFiles(tmp_path / "d")
    files.write_rows("sync_metrics", 1, [])
    assert files.close() == 0
    (tmp_path / "d/sync_training_summary.json").write_text("[")
    assert claim_directory(tmp_path / "d", "me") == tmp_path / "d_2"


def test_a_slow_disk_holds_training_up_only_when_many_files_wait(tmp_path, monkeypatch):
    may_write = threading.Event()
    monkeypatch.setattr(module, "write_text", lambda path, text: may_write.wait(10))
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    files = PaperFiles(tmp_path)
    for step in range(3):
        files.write_rows("sync_metrics", step, ["1"])
        assert files.collect() == 0  # at once
    files.write_rows("sync_metrics", 3, ["1"])
    threading.Timer(0.05, may_write.set).start()
    files.collect()
    assert may_write.is_set()
    files.close()
