import hashlib
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from distilrec.core.errors import ArtifactError, RunError, StoreError
from distilrec.core.snapshot import Snapshot
from distilrec.io.checkpoints import KEPT, Checkpoints
from distilrec.io.locks import locked
from distilrec.io.promotions import Entry, PromotionLog
from distilrec.io.saved import last_epoch
from distilrec.io.store import MANIFEST, LocalStore, manifest_of, whole_folder


def test_only_one_of_many_creates_a_key(tmp_path):
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda i: store.create("a/1.json", str(i).encode()), range(16)))
    assert won.count(True) == 1
    assert store.get("a/1.json") == str(won.index(True)).encode()
    assert store.keys("a") == ["a/1.json"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["1.json"], "nothing is left aside"


def test_a_key_that_is_not_there(tmp_path):
    store = LocalStore(tmp_path)
    with pytest.raises(KeyError):
        store.get("none")
    store.delete("none")
    assert store.keys("none") == []


def test_what_one_wrote_another_may_read(tmp_path):
    store = LocalStore(tmp_path)
    store.put("scene/one", b"1")
    store.create("scene/two", b"2")
    assert all((tmp_path / key).stat().st_mode & 0o044 == 0o044 for key in store.keys("scene"))
    (tmp_path / "scene" / "one").unlink()
    (tmp_path / "scene" / "one").mkdir()  # what nobody may read, root may
    with pytest.raises(StoreError, match="scene/one cannot be read: Is a directory"):
        store.get("scene/one")


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "afile").touch()
    with pytest.raises(StoreError, match="afile/store/leases of the store cannot be written: Not a directory"):
        LocalStore(tmp_path / "afile" / "store").create("leases/1.json", b"{}")
    with pytest.raises(RunError, match="afile/run cannot be written: Not a directory"), locked(tmp_path / "afile/run"):
        pass


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out") as folder:
        (folder.path / "half.txt").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "out") as folder:
        (folder.path / "all.txt").write_text("all")
        folder.manifest["step"] = "teach"
        assert not (tmp_path / "out").exists()
    manifest = manifest_of(tmp_path / "out")
    assert manifest == {"step": "teach", "files": {"all.txt": hashlib.sha256(b"all").hexdigest()}}


def test_what_was_altered_is_refused(tmp_path):
    with whole_folder(tmp_path / "out") as folder:
        (folder.path / "weights").write_bytes(b"1234")
    (tmp_path / "out" / "weights").write_bytes(b"1235")
    with pytest.raises(ArtifactError, match="sha256 differs"):
        manifest_of(tmp_path / "out")
    (tmp_path / "out" / "weights").unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        manifest_of(tmp_path / "out")
    (tmp_path / "out" / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="not JSON"):
        manifest_of(tmp_path / "out")
    (tmp_path / "out" / MANIFEST).unlink()
    with pytest.raises(ArtifactError, match="no manifest"):
        manifest_of(tmp_path / "out")


def test_checkpoints_fall_back_to_the_newest_that_is_whole(tmp_path):
    store = LocalStore(tmp_path)
    checkpoints = Checkpoints(store, "scene", "teach", "abc")
    assert checkpoints.latest() is None
    for epoch in (1, 2, 3):
        snapshot = Snapshot({"w": torch.full((2,), float(epoch))}, {"epoch": epoch})
        checkpoints.save(epoch, snapshot, [{"epoch": one} for one in range(1, epoch + 1)])
    assert len(store.keys("checkpoints")) == 2 * KEPT
    assert last_epoch(store, "scene", "teach", "abc") == 3
    newest = tmp_path / checkpoints.prefix / "000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-4])
    snapshot, history = checkpoints.latest()
    assert (snapshot.values, snapshot.tensors["w"].tolist(), len(history)) == ({"epoch": 2}, [2.0, 2.0], 2)
    (tmp_path / checkpoints.prefix / "000002.json").write_text('{"epoch": 2, "val')
    assert checkpoints.latest() is None, "none is whole any more"


def test_what_a_newer_distilrec_says_besides_is_passed_over(tmp_path):
    """So that its image can be rolled back."""
    log = PromotionLog(LocalStore(tmp_path), "scene")
    entry = Entry(1, "scene", "1", "promoted", ("fine", "fast"), "1", "2026", "c", "", "me", "now")
    assert log.append(entry)
    path = tmp_path / "promotions" / "scene" / "000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mood": ["good"]}))
    assert log.latest() == entry


def test_a_promotion_number_is_taken_once(tmp_path):
    log = PromotionLog(LocalStore(tmp_path), "scene")
    assert log.latest() is None
    entries = [Entry(1, "scene", str(i), "promoted", ("fine",), str(i), "2026", "c", "", "me", "now") for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(log.append, entries))
    assert won.count(True) == 1
    assert log.latest() == entries[won.index(True)]


def test_sigterm_leaves_nothing_half_written(tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom distilrec import entry\n"
        "from distilrec.io.store import whole_folder\n"
        "with entry._terminable(), whole_folder(Path(sys.argv[1]) / 'out') as folder:\n"
        "    (folder.path / 'half').write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=30) == 143
    child.stdout.close()
    assert list(tmp_path.iterdir()) == []


def test_what_no_step_wrote_is_not_replaced(tmp_path):
    (tmp_path / "precious.csv").write_text("mine")
    with pytest.raises(RunError, match="not the output of a step"), whole_folder(tmp_path):
        pass
    assert (tmp_path / "precious.csv").read_text() == "mine"
    for content in ("old", "new"):
        with whole_folder(tmp_path / "out") as folder:
            (folder.path / content).write_text(content)
            folder.manifest["step"] = "teach"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "new"]
    with pytest.raises(ArtifactError, match="written by 'teach', not by 'prepare'"):
        manifest_of(tmp_path / "out", "prepare")
