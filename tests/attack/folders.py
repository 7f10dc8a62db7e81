"""Random damage to run folders. Each command gives the results of the undamaged one, or says what is wrong and keeps all."""

import json
import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

from attack.case import Case, Fault
from attack.commands import call_words, check_answer
from command import files

VALUES = [None, True, 0, -1, 1, 2.5, 1e308, 10**30, "", "x", "tanh", [], {}, [1], {"type": "Run"}, "nan"]


def build_folders(top: Path) -> dict[str, Path]:
    """Train the folders that are damaged later: a finished run, one stopped in its second epoch, and two seeds."""
    from eqprop.training import checkpoint
    from eqprop.training.run_folder import RunFolder

    short = ["--no-plots", "--data.batch-size", "200", "--estimator.free-steps", "5", "--estimator.nudged-steps", "3"]
    for name, more in (("finished", ["--epochs", "2"]), ("seeds", ["--epochs", "1", "--seeds", "2"])):
        answer = call_words(["train", "digits", *short, *more, "--out", str(top / name)])
        assert answer.code == 0, answer
    shutil.copytree(top / "finished", top / "stopped")
    place = RunFolder(top / "stopped")
    call_words(["train", "digits", *short, "--epochs", "1", "--out", str(top / "one")])
    tensors, facts = checkpoint.read(RunFolder(top / "one").last)
    checkpoint.write(place.last, tensors, facts | {"config": place.config.read_text()})  # after the first of two epochs
    shutil.rmtree(top / "one")
    return {name: top / name for name in ("finished", "stopped", "seeds")}


def damage(rng: Random, folder: Path, others: list[Path]) -> str:
    """Damage one file of a folder, perhaps by a file of other runs; return what was done."""
    path = rng.choice(sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"))
    name = str(path.relative_to(folder))
    content = path.read_bytes()
    kinds = ["cut", "bit", "insert", "delete", "empty", "append", "swap", "pipe", "folder", "nested", "random"]
    kinds += ["foreign", "foreign", "link", "copy"]
    if path.suffix in (".json", ".jsonl"):
        kinds += ["value"] * 12 + ["key"] * 4 + ["number"] * 4
    kind = rng.choice(kinds)
    at = rng.randrange(len(content) + 1)
    if kind == "cut":
        path.write_bytes(content[:at])
    elif kind == "bit" and content:
        at = min(at, len(content) - 1)
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :])
    elif kind == "insert":
        path.write_bytes(content[:at] + rng.randbytes(5) + content[at:])
    elif kind == "append":
        path.write_bytes(content + rng.choice([b"\n", b"x", b"\0", b"{}\n", b"null\n"]))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "random":
        path.write_bytes(rng.randbytes(200))
    elif kind == "nested":
        path.write_bytes(b"[" * 50_000)
    elif kind == "swap":
        other = rng.choice(sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"))
        shutil.copy(other, path) if other != path else None
        name = f"{name} by {other.relative_to(folder)}"
    elif kind == "foreign":  # a file of another run
        found = sorted(p for run in others for p in run.rglob(path.name))
        if found:
            path.write_bytes(rng.choice(found).read_bytes())
    elif kind == "link":
        target = rng.choice(["/dev/zero", "/dev/null", "/nowhere", path.name, ".", "/"])
        path.unlink()
        path.symlink_to(target)
        name = f"{name} to {target}"
    elif kind == "copy":
        shutil.copy(path, path.with_name(rng.choice(["x" + path.name, path.name + ".1", ".tmp", "é"])))
    elif kind in ("delete", "pipe", "folder"):
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
    elif kind in ("value", "key", "number"):
        name = f"{name}: {_edit_json(rng, path, kind)}"
    return f"{kind} {name}"


def _edit_json(rng: Random, path: Path, kind: str) -> str:
    """Change one value, key or number of a JSON file; return where."""
    try:
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        n = rng.randrange(len(lines))
        value = json.loads(lines[n])
        assert value
        assert isinstance(value, dict | list)
    except (ValueError, RecursionError, AssertionError):  # damaged before
        return "nothing"
    where, parent = [], value
    while True:
        key = rng.choice(sorted(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
        where.append(str(key))
        if not isinstance(parent[key], dict | list) or not parent[key] or rng.random() < 0.3:
            break
        parent = parent[key]
    if kind == "key" and isinstance(parent, dict):
        old = parent.pop(key)
        if rng.random() < 0.5:
            parent[rng.choice(["x", "type", key + "_", ""])] = old
    elif kind == "number" and isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
        parent[key] = rng.choice([parent[key] * 2, parent[key] + 1, -parent[key], parent[key] / 3])
    else:
        parent[key] = rng.choice(VALUES)
    lines[n] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n")
    return ".".join(where)


READERS = (
    ["evaluate", "{}"], ["evaluate", "{}", "--which", "best"], ["train", "--resume", "{}", "--no-plots"], ["gdu", "{}"],
    ["plot", "{}"], ["export", "{}", "--to", "out.nir"],
)  # fmt: skip
READER_WEIGHTS = (4, 4, 8, 2, 1, 1)


def folder_case(rng: Random, originals: dict[str, Path], folder: Path, number: int) -> Case:
    """Return a damaged folder and a command that reads it."""
    kind = rng.choices(list(originals), (3, 4, 2))[0]
    reader = rng.choices(READERS, READER_WEIGHTS)[0]
    seed = rng.randrange(2**32)
    place = folder / f"run-{number}"
    words = [word.format(place.name) for word in reader]
    if kind == "seeds" and reader[0] in ("evaluate", "gdu", "export"):
        words[1] = f"{place.name}/seed-0"
    how = f"{' '.join(words)} on a copy of `{kind}`, damaged by Random({seed})"
    return Case(how, partial(_read_damaged, words, originals[kind], place, seed))


def _read_damaged(words: list[str], original: Path, place: Path, seed: int) -> None:
    rng = Random(seed)
    shutil.copytree(original, place)
    expected = _result(words, place, original.name)
    shutil.rmtree(place)
    shutil.copytree(original, place)
    others = _other_runs(original)
    done = [damage(rng, place, others) for _ in range(rng.choice([1, 1, 1, 2]))]
    before = files(place)
    answer = call_words(words)
    try:
        check_answer(answer)
        if (
            answer.code == 0
            and "warning" not in answer.err
            and (got := _outcome(words, place, answer.out)) not in (None, expected)
        ):
            raise Fault(f"another result without a word: {_difference(got, expected)}")
        if answer.code == 2 and files(place) != before:
            changed = sorted(
                n for n in files(place).keys() | before.keys() if files(place).get(n, 0) != before.get(n, 0)
            )
            raise Fault(f"refused ({answer.err.strip()!r}), but changed {changed}")
    except Fault as fault:
        raise Fault(f"{'; '.join(done)}: {fault}") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _other_runs(original: Path) -> list[Path]:
    """Return the folders of other configurations: files of the same one may take each other's place."""
    same = {"finished", "stopped"} if original.name in ("finished", "stopped") else {original.name}
    return sorted(run for run in original.parent.iterdir() if run.name not in same)


_known: dict[str, object] = {}


def _result(words: list[str], place: Path, kind: str) -> object:
    """Return the outcome of a command on the undamaged folder; computed once."""
    key = kind + " ".join(words).replace(place.name, "")
    if key not in _known:
        answer = call_words(words)
        _known[key] = _outcome(words, place, answer.out)
    return _known[key]


def _outcome(words: list[str], place: Path, out: str) -> object:
    """Return what a user takes from a command: its table, or what it leaves in the folder."""
    if words[0] == "evaluate":
        return out
    if words[0] == "train":
        import eqprop as ep

        runs = sorted(path.parent for path in place.rglob("config.json"))
        with suppress(ValueError):  # a finished run is not read again; who loads it is told that it is damaged
            return [[w.sum().item() for w in ep.load(run).state_dict().values()] for run in runs]
    return None


def _difference(got: object, expected: object) -> str:
    return f"{str(got)[-200:]!r}, not {str(expected)[-200:]!r}"
