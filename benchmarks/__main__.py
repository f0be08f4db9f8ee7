"""`python -m benchmarks TOPIC [ROW …]`: measure, compare with targets.toml, print the table, keep the raw trials."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from benchmarks.harness import TOPICS, run_topic


def main() -> int:
    """Run one topic, or all; exit 1 where a target is missed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topic", nargs="?", choices=[*TOPICS, "all"], default="all")
    parser.add_argument("rows", nargs="*", help="only these rows of the table")
    arguments = parser.parse_args()
    topics = TOPICS if arguments.topic == "all" else [arguments.topic]
    missed = 0
    for topic in topics:
        module = importlib.import_module(f"benchmarks.{topic}")
        missed += run_topic(topic, module.ROWS, only=arguments.rows)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
