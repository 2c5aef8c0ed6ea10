"""The trial of a third site types what the guide says, and ends at the first thing that is not as promised."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from drills import load
from drills.drill import NotRun
from drills.sample import Outcome, Sample
from trials import guide, users
from trials.guide import Shell, block
from trials.line import Line, TrialError
from trials.third_site import GUIDE, SITE, Walk, as_before, drills, of_the_site, site_of, told
from trials.users import Users, answered_by

BLOCKS = (
    *("third-site", "third-site-stores", "third-site-preview", "third-site-up", "third-site-named"),
    *("third-site-weight", "third-site-drills", "third-site-empty", "third-site-unnamed", "third-site-destroyed"),
)
SAID: list[str] = []


def sample(site: str | None, *, started: float = 1.0, outcome: Outcome = Outcome.OK) -> Sample:
    return Sample(
        intended=started, started=started, finished=started + 0.1, user=0, client_class="dns", site=site,
        address="127.0.0.1", status=200, outcome=outcome, digest=None, detail="",
    )  # fmt: skip


def shell(tmp_path: Path, text: str = "", **variables: str) -> Shell:
    return Shell(Line(tmp_path, SAID.append), text, variables)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_guide_has_the_commands_of_every_step(name: str) -> None:
    assert block(GUIDE.read_text(encoding="utf-8"), name).strip()


def test_every_drill_of_the_guide_is_a_command_against_one_site() -> None:
    found = drills(GUIDE.read_text(encoding="utf-8"), "private")
    assert all(each.startswith("tandem drill run ") for each in found)
    public = drills(GUIDE.read_text(encoding="utf-8"), "public")
    assert [each for each in found if each not in public] == [f"tandem drill run node-loss --env lab --site {SITE}"]
    sites = Counter(site_of(each) for each in found)
    assert sites[SITE] > 1, "the third site"
    assert set(sites) - {SITE}, "and the others"


def test_a_step_the_guide_has_no_commands_for_or_has_them_twice_is_refused() -> None:
    text = "```sh one\ntrue\n```\n"
    assert block(text, "one") == "true\n"
    with pytest.raises(TrialError, match="0 blocks `sh on`"):
        block(text, "on")
    with pytest.raises(TrialError, match="2 blocks `sh one`"):
        block(text + text, "one")


def test_what_is_typed_finds_its_home_and_fails_as_a_whole(tmp_path: Path) -> None:
    text = '```sh two\necho "$TANDEM_HOME $digest"\necho "$digest" >&2\n```\n'
    assert shell(tmp_path, text, digest="sha256:1").type("two") == f"{tmp_path} sha256:1\n"
    assert SAID[-2] == '$ echo "$TANDEM_HOME $digest"', "what is typed is said"
    with pytest.raises(TrialError, match="exit code 7\nbefore\nwhy"):
        shell(tmp_path).run("echo before\necho why >&2; (exit 7)\necho never")
    with pytest.raises(TrialError, match="exit code 1"):
        shell(tmp_path).run("false | true")


def test_what_is_not_done_in_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide, "STEP_SECONDS", 0.5)
    pid = tmp_path / "pid"
    with pytest.raises(TrialError, match=r"not done after 0\.5 s"):
        shell(tmp_path).run(f"sleep 60 & echo $! > {pid}; wait")
    sleeper, end = int(pid.read_text()), time.monotonic() + 5
    while gone(sleeper) is False and time.monotonic() < end:
        time.sleep(0.02)
    assert gone(sleeper), "and so is what it started"


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_steps_are_timed_and_the_one_that_is_not_as_promised_is_marked() -> None:
    walk = Walk(SAID.append)
    with walk.step("comes"):
        pass
    with pytest.raises(TrialError), walk.step("goes"):
        raise TrialError("something is left")
    assert [(title, wrong) for title, _, wrong in walk.rows] == [("comes", ""), ("goes", "something is left")]
    assert walk.table().row_count == 3


def test_a_preview_that_is_silent_of_a_stack_is_not_as_promised() -> None:
    told("storage-edge.lab\n  create bucket", ["storage-edge.lab"])
    with pytest.raises(TrialError, match=r"nothing of pool-edge\.lab"):
        told("storage-edge.lab\n  create bucket", ["storage-edge.lab", "pool-edge.lab"])


def test_one_thing_left_or_missing_is_not_as_before() -> None:
    before = Counter({"private: deployments": 2, "route53 records": 8})
    as_before(before, Counter(before))
    with pytest.raises(TrialError, match="edge: secrets: 1, expected 0; route53 records: 7, expected 8"):
        as_before(before, Counter({"private: deployments": 2, "route53 records": 7, "edge: secrets": 1}))


def test_what_the_third_site_holds_is_told_from_what_the_others_do() -> None:
    kinds = Counter({"edge: deployments": 1, "store of edge: buckets": 3, "private: deployments": 1, "acm edges": 1})
    assert of_the_site(kinds) == ["edge: deployments", "store of edge: buckets"]


def test_who_answered_since_a_moment_counts_from_the_start_of_a_request() -> None:
    seen = [sample("edge", started=1.0), sample("private", started=2.0), sample(None, started=3.0)]
    assert answered_by(seen, 2.0) == {"private"}


def asking(monkeypatch: pytest.MonkeyPatch, *answers: Sample, trouble: Exception | None = None) -> Users:
    async def run(_settings: object, stop: object, *, on_sample: Callable[[Sample], None]) -> None:
        for each in answers:
            on_sample(each)
        if trouble:
            raise trouble
        await stop.wait()  # type: ignore[attr-defined]  # an asyncio.Event

    monkeypatch.setattr(load, "run", run)
    return Users(None)  # type: ignore[arg-type]  # the load is not asked


def test_users_who_are_all_answered_have_nothing_to_say_and_go_with_their_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with asking(monkeypatch, sample("private"), sample("edge")) as beside:
        beside.check()
        beside.until(lambda seen: answered_by(seen, 0) == {"private", "edge"}, 30, "nobody came")
    assert not beside._thread.is_alive()


def test_one_failed_user_and_an_end_of_the_load_are_not_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = asking(monkeypatch, sample("private"), sample(None, outcome=Outcome.TIMEOUT))
    with failing as beside, pytest.raises(TrialError, match="1 of 2 requests failed, the first"):
        beside.until(lambda _: False, 5, "never")
    with asking(monkeypatch, sample("private"), trouble=NotRun("it died")) as beside:
        beside._thread.join(30)
        with pytest.raises(TrialError, match="the users' load ended: it died"):
            beside.check()


def test_what_users_never_see_is_told_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "POLL_SECONDS", 0.01)
    asks = asking(monkeypatch, sample("private"))
    with asks as beside, pytest.raises(TrialError, match=r"nobody was led to edge within 0\.05 s"):
        beside.until(lambda seen: "edge" in answered_by(seen, 0), 0.05, "nobody was led to edge")
