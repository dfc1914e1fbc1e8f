import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

SET_UP = "import logging; from mesh import log; log.set_up('info'); door = log.access_lines('door')\n"


def lines(program: str) -> list[dict[str, Any]]:
    """What a program that has set up its log as ours do writes to its stderr, which is no terminal."""
    done = subprocess.run([sys.executable, "-c", SET_UP + program], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_json_with_its_fields_and_no_capability_or_secret_in_it() -> None:
    extra = {"cart_id": "d8ac631c-e857-be28-e247-52cf1d459e27", "password": "hunter2", "items": 3}

    [line] = lines(f"logging.getLogger('shop').warning('it happened', extra={extra!r})")

    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "it happened",
        "level": "warning",
        "logger": "shop",
        "cart_id": "..459e27",
        "password": "***",
        "items": 3,
    }


def test_a_line_of_a_request_looks_like_the_others() -> None:
    fields = {"method": "GET", "route": "/v1/carts/{cart_id}", "status": 200, "ms": 1.25, "request_id": "r"}

    [line] = lines(f"door({fields!r})")

    at = datetime.fromisoformat(line.pop("timestamp"))
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert line == {"event": "request", "level": "info", "logger": "door", **fields}


@pytest.mark.parametrize("end", ["return", "import os; logging.shutdown(); os._exit(0)"], ids=["return", "exit"])
def test_lines_of_requests_are_written_at_the_end_of_a_program_whose_loop_has_no_time_for_them(end: str) -> None:
    program = f"import asyncio\nasync def main():\n    door({{'n': 1}}); door({{'n': 2}}); {end}\nasyncio.run(main())"

    assert [line["n"] for line in lines(program)] == [1, 2]


def test_lines_of_a_loop_that_ended_are_written_with_those_of_the_next() -> None:
    program = (
        "import asyncio, os\n"
        "async def main(n): door({'n': n})\n"
        "asyncio.run(main(1)); asyncio.run(main(2)); door({'n': 3})\n"
        "os._exit(0)"
    )

    assert [line["n"] for line in lines(program)] == [1, 2, 3]


def test_on_a_terminal_the_logger_writes_the_lines_of_requests() -> None:
    ours, terminal = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", SET_UP + "assert door is None"], stderr=terminal, check=True)
    finally:
        os.close(ours)
        os.close(terminal)


def test_an_answer_that_found_its_client_gone_is_no_news_and_other_failures_of_grpc_are() -> None:
    gone, refused = 'Failed "execute_batch": (<SendMessageOperation>,)', "Failed grpc_call_start_batch: 8"

    told = lines(
        "logger = logging.getLogger('grpc._cython.cygrpc')\n"
        f"for text in {(gone, refused)!r}:\n"
        "    logger.error('raised by servicer method', exc_info=RuntimeError(text))\n"
        "logger.error('told without an error')"
    )

    assert [line.get("exception") for line in told] == [f"RuntimeError: {refused}", None]
