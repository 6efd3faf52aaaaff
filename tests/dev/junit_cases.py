"""Print the cases of JUnit files, a line each: outcome, part, name. Usage: junit_cases.py PART FILE..."""

from __future__ import annotations

import sys
from xml.etree import ElementTree


def is_empty(case):
    """ansible-test reports as skipped what had no file to look at: there was no case."""
    return case.findtext("skipped") == "No tests applicable."


def outcome(case):
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in kinds else "passed"


def name(case):
    return " ".join(filter(None, (case.get("classname"), case.get("name"))))


def main(part, *files):
    for file in files:
        for case in ElementTree.parse(file).iter("testcase"):
            if not is_empty(case):
                print(outcome(case), part, name(case).replace("\n", " "), sep="\t")


main(*sys.argv[1:])
