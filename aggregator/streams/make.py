"""Make a stream: virtual sites run their own commands, and what they export is stored.

Every site ingests its pictures, trains its expert and looks at its frames through everybody's
experts by ``echofed-site``; nothing but what passed the sites' doors lies in the stream. Each step
is remembered by the hash of the plan, so a run that was cut off goes on where it stood.
"""

import json
import logging
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import rfc8785
import yaml

from aggregator.benchmark.stream import (
    STREAM_FILE,
    Arrival,
    Step,
    Stream,
    StreamRecord,
    open_stream,
)
from aggregator.feature_bank import FeatureBank
from aggregator.streams.pictures import link_public, write_phantom
from aggregator.streams.plan import PLAN_FILE, StreamPlan, StreamSite, StreamsPlan
from shared.echo.expert import CARD_FILE, ExpertCard, read_expert_card
from shared.echo.schema import to_document
from shared.errors import Code, EchoFedError
from shared.files import read_json, sha256_hex, write_json
from shared.settings import dump_settings, load_settings

log = logging.getLogger(__name__)
Note = Callable[[str], None]
JOINT = "joint"
"""The site that sees everybody's pictures, which no federation has; it trains the joint network."""
_RECIPIENT = "benchmark"
_SMALL = ("seeds=[1]",)


def make_small_stream(folder: Path, note: Note) -> Stream:
    """A stream of one seed and small hospitals, for who has none: minutes on two cores.

    Args:
        folder: of all streams.
        note: told what is done.
    """
    plan = load_settings(StreamsPlan, PLAN_FILE, _SMALL)
    small = plan.streams[0].model_copy(
        update={"train_patients": 30, "val_patients": 6, "test_patients": 20}
    )
    return make_stream(small, plan.seeds[0], folder, note)


def make_stream(plan: StreamPlan, seed: int, folder: Path, note: Note) -> Stream:
    """Make a stream, or open it if it is there.

    Args:
        plan: what it is made of.
        seed: of phantoms, splits and trainings.
        folder: of all streams.
        note: told what is done.

    Raises:
        EchoFedError: ALREADY_EXISTS where the folder holds a stream of another plan, RUN_FAILED
            where a site's command fails, what ``link_public`` raises.
    """
    target = folder / plan.name / f"seed-{seed}"
    recipe = sha256_hex(rfc8785.dumps({"plan": dump_settings(plan), "seed": seed}))
    _claim(target, recipe)
    if not (target / STREAM_FILE).is_file():
        _Making(plan, seed, target, note).run(recipe)
    return open_stream(target)


def _claim(target: Path, recipe: str) -> None:
    """Let one folder hold one plan's stream only."""
    mark = target / "recipe.json"
    if mark.is_file() and read_json(mark) != {"recipe": recipe}:
        raise EchoFedError(
            Code.ALREADY_EXISTS,
            f"{target.parent.name}/{target.name} is a stream of another plan",
            "delete that folder, or name another with --out",
        )
    target.mkdir(parents=True, exist_ok=True)
    write_json(mark, {"recipe": recipe})


class _Making:
    """One stream in the making."""

    def __init__(self, plan: StreamPlan, seed: int, target: Path, note: Note) -> None:
        self._plan = plan
        self._seed = seed
        self._target = target
        self._work = target / "work"
        self._note = note
        self._steps: list[Step] = []

    def run(self, recipe: str) -> None:
        """Do every step that was not done yet; write the record last and drop the pictures."""
        plan, target = self._plan, self._target
        learned = [site for site in plan.sites if not site.is_foreign]
        for site in plan.sites:
            self._found(site.name, [site])
            self._draw(site)
            self._ingest(site)
        for site in learned:
            self._train(site.name, [site])
        self._found(JOINT, learned)
        for site in learned:
            self._lend(site)
        self._train(JOINT, learned)
        for site in plan.sites:
            self._look(site)
        cards = self._cards()
        bank = FeatureBank(target / "bank")
        for path in sorted((self._work / "exports").glob("*.safetensors")):
            bank.add(path.read_bytes(), cards, now=datetime.now(UTC))
        for card in cards.values():
            write_json(target / "experts" / card.id / CARD_FILE, to_document(card))
        of_site = {card.site: card.id for card in cards.values()}
        record = StreamRecord(
            name=plan.name,
            seed=self._seed,
            origin=plan.origin,
            arrivals=tuple(_arrival(site, of_site, bank) for site in plan.sites),
            joint=of_site[JOINT],
            steps=tuple(self._steps),
            recipe=recipe,
        )
        write_json(target / STREAM_FILE, to_document(record))
        shutil.rmtree(self._work)

    def _found(self, name: str, sites: Sequence[StreamSite]) -> None:
        """A site without a centre, and a policy that lets the benchmark have what it asks for."""
        parts = {
            "ingest": self._plan.ingest,
            "expert": {"seed": self._seed, **self._plan.expert},
            "extract": self._plan.extract,
        }
        options = [
            word
            for part, tree in parts.items()
            for key, value in tree.items()
            for word in ("--set", f"{part}.{key}={json.dumps(value)}")
        ]
        home = str(self._home(name))
        command = ["init", "--standalone", home, "--site", name, *options]
        self._step(f"{name}: init", command, config=False)
        consent = {
            "purposes": ["fusion", "evaluation"],
            "recipients": [_RECIPIENT],
            "artefacts": ["rows", "expert_weights", "logits"],
            "minimum_patients_per_view": self._plan.minimum_patients_per_view,
        }
        datasets = {_dataset(site): consent for site in sites}
        policy = {"version": 1, "revision": 2, "datasets": datasets}
        (self._home(name) / "policy.yaml").write_text(yaml.safe_dump(policy, sort_keys=False))

    def _draw(self, site: StreamSite) -> None:
        """Put the site's pictures beside it."""
        mark = self._mark(f"{site.name}: pictures")
        if mark.is_file():
            self._steps.append(Step(**read_json(mark)))
            return
        self._note(f"{site.name}: pictures")
        began = time.monotonic()
        if site.phantom is not None:
            write_phantom(self._plan, site, self._pictures(site), seed=self._seed)
        else:
            link_public(site, self._pictures(site), seed=self._seed)
        self._keep(mark, Step(f"{site.name}: pictures", time.monotonic() - began, 0.0))

    def _ingest(self, site: StreamSite) -> None:
        folder = self._pictures(site)
        command = ["ingest", str(folder), "--dataset", _dataset(site), "--origin"]
        if site.phantom is not None:
            files = ["--labels", str(folder / "labels.csv")]
            words = ["--label-map", str(folder / "labels.yaml")]
            self._step(f"{site.name}: ingest", [*command, "phantom", *files, *words])
        else:
            self._step(f"{site.name}: ingest", [*command, "real", "--layout", "organ_stream"])

    def _lend(self, site: StreamSite) -> None:
        """Copy a dataset to the joint site."""
        target = self._home(JOINT) / "datasets" / _dataset(site)
        if not target.exists():
            own = self._home(site.name) / "datasets" / _dataset(site)
            shutil.copytree(own, target.with_name(f".{target.name}"), dirs_exist_ok=True)
            target.with_name(f".{target.name}").rename(target)

    def _train(self, name: str, sites: Sequence[StreamSite]) -> None:
        """Train a site's expert and let it leave."""
        datasets = [word for site in sites for word in ("--dataset", _dataset(site))]
        self._step(f"{name}: train", ["train", *datasets])
        out = ["export", str(self._work), "--recipient", _RECIPIENT]
        self._step(f"{name}: export expert", out)

    def _look(self, site: StreamSite) -> None:
        """Let a site look at its frames through every expert."""
        out = ["export", str(self._work), "--recipient", _RECIPIENT]
        experts = ["--experts", str(self._work / "experts")]
        self._step(f"{site.name}: export features", [*out, *experts])

    def _step(self, step: str, command: Sequence[str], *, config: bool = True) -> None:
        """Run a command of a site once; what it cost is remembered."""
        mark = self._mark(step)
        if mark.is_file():
            self._steps.append(Step(**read_json(mark)))
            return
        self._note(step)
        name = step.split(":", maxsplit=1)[0]
        words = ["--config", str(self._home(name) / "site.yaml")] if config else []
        began, used = time.monotonic(), _children_cpu_s()
        done = subprocess.run(
            [_site_command(), *command, *words, "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        (self._work / "logs").mkdir(exist_ok=True)
        log_path = self._work / "logs" / f"{step.replace(': ', '-').replace(' ', '-')}.log"
        log_path.write_text(done.stdout + done.stderr)
        already = done.returncode == int(Code.ALREADY_EXISTS) and command[0] == "init"
        if done.returncode and not already:
            raise EchoFedError(
                Code.RUN_FAILED,
                f"{step} ended with {done.returncode}: {_fault(done.stderr)}",
                f"the command's words stand in {log_path.name}; the same command goes on from here",
            )
        self._keep(mark, Step(step, time.monotonic() - began, _children_cpu_s() - used))

    def _keep(self, mark: Path, step: Step) -> None:
        self._steps.append(step)
        write_json(mark, asdict(step))

    def _mark(self, step: str) -> Path:
        return self._work / "steps" / f"{step.replace(': ', '-').replace(' ', '-')}.json"

    def _cards(self) -> dict[str, ExpertCard]:
        """Cards of all experts by id."""
        paths = sorted((self._work / "experts").glob(f"*/{CARD_FILE}"))
        cards = [read_expert_card(read_json(path)) for path in paths]
        return {card.id: card for card in cards}

    def _home(self, name: str) -> Path:
        return self._work / "sites" / name

    def _pictures(self, site: StreamSite) -> Path:
        return self._work / "pictures" / site.name


def _arrival(site: StreamSite, of_site: dict[str, str], bank: FeatureBank) -> Arrival:
    name = f"{site.name}/{_dataset(site)}"
    return Arrival(
        name=name,
        content=bank.latest()[name],
        expert=of_site.get(site.name, ""),
        level=site.level,
        is_foreign=site.is_foreign,
    )


def _dataset(site: StreamSite) -> str:
    return f"{site.name}-echo" if site.phantom is not None else f"{site.name}-organs"


def _site_command() -> str:
    """The site's command beside this interpreter, or on the path.

    Raises:
        EchoFedError: CONFIG_MISSING.
    """
    beside = Path(sys.executable).with_name("echofed-site")
    found = str(beside) if beside.is_file() else shutil.which("echofed-site")
    if found is None:
        raise EchoFedError(
            Code.CONFIG_MISSING,
            "the command echofed-site is not installed",
            "install echofed[site]",
        )
    return found


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _fault(text: str) -> str:
    """What a command said of its failure, without the way out."""
    lines = [line for line in text.splitlines() if line.strip()] or ["no word"]
    return next((line for line in lines if line.startswith("error ")), lines[-1])
