"""A program of the mesh for test_run: serves until told to stop, with one method that waits for a line on stdin.

It prints its port, then a line for each call that has begun.
"""

import asyncio
import sys

from mesh.auth import Authenticator
from mesh.run import GrpcHost, run, stop_signal
from tests.mesh.echo import SECRET, Echo, no_keys


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def wait_for_a_line(text: str) -> str:
    say(f"began {text}")
    await asyncio.to_thread(sys.stdin.readline)
    return f"finished {text}"


async def main() -> int:
    stop = stop_signal()
    host = GrpcHost([Echo(wait_for_a_line)], Authenticator(SECRET, no_keys), bind="127.0.0.1", port=0)
    say(str(await host.start()))
    await stop.wait()
    say("stopping")
    await host.stop(30)
    return 0


if __name__ == "__main__":
    sys.exit(run(main()))
