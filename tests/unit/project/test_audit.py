"""What is said of a report of known weaknesses."""

from __future__ import annotations

from tests.unit.project.test_make_certificates import load_script

judge = load_script("audit").judge
GOOD = {"name": "zarr", "version": "3.1.6", "vulns": []}
BAD = {
    "name": "jinja2",
    "version": "3.1.2",
    "vulns": [{"id": "CVE-1", "fix_versions": ["3.1.3"]}, {"id": "CVE-2", "fix_versions": []}],
}
SKIPPED = {"name": "cagdask", "skip_reason": "not found"}


def test_weaknesses_are_named_with_what_mends_them() -> None:
    assert judge({"dependencies": [GOOD, BAD, SKIPPED]}) == (
        False,
        [
            "jinja2 3.1.2: CVE-1; mended in 3.1.3",
            "jinja2 3.1.2: CVE-2; mended in no release yet",
            "2 packages were audited, 1 could not be",
        ],
    )


def test_without_weaknesses_all_is_good() -> None:
    assert judge({"dependencies": [GOOD]}) == (True, ["1 packages were audited"])


def test_where_nobody_can_be_asked_that_is_said() -> None:
    assert judge({"dependencies": [SKIPPED]}) == (
        True,
        ["nothing was audited: no advisories for 1 packages can be had from here"],
    )
