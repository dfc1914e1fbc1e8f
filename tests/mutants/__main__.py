"""`python -m tests.mutants`: plant each bug in a copy of the tree, send the hunters, print who caught what.

First the tree as it is goes through all of them: a hunter that cries without a bug proves nothing. Exit code 0 when
every bug was caught, 1 when one was not, 2 for wrong use.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.hunters import HUNTERS, Catch, hunt
from tests.mutants.mutations import MUTATIONS, Edit, Mutation

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a planted bug."""

    mutation: Mutation
    catch: Catch | None
    seconds: float


def main() -> int:
    """Parse, hunt, print."""
    options = _parser().parse_args()
    chosen = [mutation for mutation in MUTATIONS if not options.only or mutation.name in options.only]
    began = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        if not options.trust:
            false_alarms = [catch for catch in pool.map(_unharmed, HUNTERS) if catch.caught]
            if false_alarms:
                _print(f"{catch.hunter} cries without a bug: {catch.what}" for catch in false_alarms)
                return 1
        fates = list(pool.map(_fate, chosen))
    return _report(fates, seconds=time.monotonic() - began)


def apply(mutation: Mutation, folder: Path) -> None:
    """Plant the bug. Raises ValueError when the code that it changes is not there any more."""
    for edit in mutation.edits:
        _apply(edit, folder, mutation.name)


def _apply(edit: Edit, folder: Path, name: str) -> None:
    path = folder / edit.path
    text = path.read_text()
    if text.count(edit.old) != 1:
        raise ValueError(f"{name}: {edit.path} has {text.count(edit.old)} places that read {edit.old!r}")
    path.write_text(text.replace(edit.old, edit.new))


def _unharmed(hunter: str) -> Catch:
    with tempfile.TemporaryDirectory(prefix="unharmed-") as folder:
        copy(Path(folder))
        return hunt(hunter, Path(folder))


def _fate(mutation: Mutation) -> Fate:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy(Path(folder))
        apply(mutation, Path(folder))
        catch = _first_catch(mutation, Path(folder))
    fate = Fate(mutation, catch, time.monotonic() - began)
    _print([_line(fate)])
    return fate


def _first_catch(mutation: Mutation, folder: Path) -> Catch | None:
    others = [hunter for hunter in HUNTERS if hunter != mutation.hunter]
    for hunter in (mutation.hunter, *others):
        catch = hunt(hunter, folder)
        if catch.caught:
            return catch
    return None


def copy(folder: Path) -> None:
    """Copy what git knows of, and what is new and not ignored, as it stands in the work tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def _report(fates: Sequence[Fate], *, seconds: float) -> int:
    escaped = [fate.mutation.name for fate in fates if fate.catch is None]
    by = Counter(fate.catch.hunter for fate in fates if fate.catch is not None)
    caught = ", ".join(f"{number} by the {hunter}" for hunter, number in by.most_common())
    _print([f"{len(fates)} bugs planted, caught {caught or 'none'}, in {seconds:.0f} s"])
    if escaped:
        _print([f"ESCAPED: {', '.join(escaped)}"])
    return 1 if escaped else 0


def _line(fate: Fate) -> str:
    by, what = (fate.catch.hunter, fate.catch.what) if fate.catch else ("ESCAPED", fate.mutation.harm)
    return f"{fate.mutation.name:<34} {by:<12} {fate.seconds:>4.0f} s  {what[:110]}"


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="only these bugs")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--trust", action="store_true", help="do not try the tree without a bug first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
