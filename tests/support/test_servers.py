import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiomysql
import pytest
from redis.asyncio import from_url

from tests.support.servers import MariaDb, Redis, Server, ServerError, free_port


@pytest.fixture
def mariadb(tmp_path: Path) -> Iterator[MariaDb]:
    with MariaDb(tmp_path / "mariadb") as server:
        yield server


async def query(server: MariaDb, *statements: str) -> list[tuple[object, ...]]:
    url = urlsplit(server.url)
    connection = await aiomysql.connect(
        host=url.hostname, port=url.port, user=url.username, password=url.password, autocommit=True
    )
    try:
        async with connection.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)
            return list(await cursor.fetchall())
    finally:
        connection.close()


async def test_mariadb_keeps_what_was_committed_over_a_kill_and_a_restart(mariadb: MariaDb) -> None:
    await query(mariadb, "CREATE DATABASE shop_test", "CREATE TABLE shop_test.kept (id INT PRIMARY KEY) ENGINE=InnoDB")
    await query(mariadb, "INSERT INTO shop_test.kept VALUES (7)")
    url, pid = mariadb.url, mariadb.pid

    mariadb.kill()
    mariadb.start()
    mariadb.restart()

    assert await query(mariadb, "SELECT id FROM shop_test.kept") == [(7,)]
    assert mariadb.url == url
    assert mariadb.pid != pid


async def test_mariadb_forces_every_commit_to_disk(mariadb: MariaDb) -> None:
    assert await query(mariadb, "SELECT @@innodb_flush_log_at_trx_commit") == [(1,)]


async def test_redis_answers_again_after_a_kill_and_has_lost_its_keys(tmp_path: Path) -> None:
    with Redis(tmp_path / "redis") as server:
        async with from_url(server.url) as client:
            await client.set("key", "value")

        server.kill()
        server.start()

        async with from_url(server.url) as client:
            assert await client.get("key") is None


async def test_the_shared_servers_answer(mariadb_url: str, redis_url: str) -> None:
    for url in map(urlsplit, (mariadb_url, redis_url)):
        with socket.create_connection((str(url.hostname), int(url.port or 0)), timeout=5):
            pass


def test_a_removed_server_leaves_neither_process_nor_data(tmp_path: Path) -> None:
    with Redis(tmp_path / "redis") as server:
        pid = server.pid

    assert not server.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ServerError, match="not running"):
        _ = server.pid


@pytest.mark.parametrize("kind", [MariaDb, Redis])
def test_a_missing_program_is_named_with_the_package_to_install(
    kind: type[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.servers._SEARCH_PATH", str(tmp_path))

    with pytest.raises(ServerError, match=f"apt-get install {kind.package}"):
        kind(tmp_path / "server").start()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    server = Redis(tmp_path / "redis")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()

        with pytest.raises(ServerError, match="Address already in use"):
            server.start()
    server.remove()


def test_a_free_port_can_be_bound_and_is_never_lent_to_an_outgoing_connection() -> None:
    port = free_port()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
    assert port < int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def test_no_port_is_told_twice_to_processes_that_ask_at_once() -> None:
    program = "from tests.support.servers import free_port\nfor _ in range(50): print(free_port())"
    asking = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(3)]

    told = [line for process in asking for line in process.communicate()[0].split()]

    assert len(told) == 150
    assert len(set(told)) == 150
