"""Two real services with one Valkey and a data folder each are one service, whichever is asked and whichever dies."""

import base64
import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.faults.service import CODE_BYTES, Service, State, check, create_collection, join, run_writers
from tests.servers import Server, ServerKind, running_server
from tests.waiting import PATIENCE_SECONDS, wait_until

NAMES = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(ServerKind.VALKEY) as server:
        yield server


def service_on(server: Server, folder: Path, prefix: str) -> Service:
    return Service(
        folder,
        BEBR_REDIS_URL=server.url,
        BEBR_REDIS_PREFIX=prefix,
        BEBR_SHARED_STORE="true",
        BEBR_MEMBER_NAME=folder.name,
    )


@pytest.fixture(scope="module")
def pair(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[httpx.Client]]:
    """Clients of two services."""
    folder = tmp_path_factory.mktemp("pair")
    with service_on(server, folder / "one", "pair") as one, service_on(server, folder / "two", "pair") as two:
        clients = [httpx.Client(base_url=f"{service.url}/v1/", timeout=PATIENCE_SECONDS) for service in (one, two)]
        with clients[0], clients[1]:
            yield clients


def make(client: httpx.Client, name: str | None = None) -> str:
    name = name or f"c{next(NAMES)}"
    client.put(f"collections/{name}", json={"code": f"{CODE_BYTES * 8}x1", "shards": 2}).raise_for_status()
    return name


def write(client: httpx.Client, name: str, ids: list[str], **metadata: Any) -> dict[str, Any]:
    points = [{"id": i, "code_b64": code_of(f"{i}{metadata}"), "metadata": metadata} for i in ids]
    answer: dict[str, Any] = (
        client.post(f"collections/{name}/points", json={"points": points}).raise_for_status().json()
    )
    return answer


def code_of(text: str) -> str:
    return base64.b64encode(random.Random(text).randbytes(CODE_BYTES)).decode()


def search(client: httpx.Client, name: str, code: str, **options: Any) -> list[dict[str, Any]]:
    body = {"code_b64": code, "scorer": "hamming", **options}
    hits: list[dict[str, Any]] = client.post(f"collections/{name}/search", json=body).raise_for_status().json()["hits"]
    return hits


def test_members_are_listed_by_each(pair: list[httpx.Client]) -> None:
    for number, client in enumerate(pair):
        wait_until(lambda client=client: len(client.get("members").json()["members"]) == 2, "both are members")  # type: ignore[misc]
        members = client.get("members").json()["members"]
        assert [(one["name"], one["is_this"]) for one in members] == [("one", number == 0), ("two", number == 1)]


def test_what_one_has_made_the_other_serves_at_once(pair: list[httpx.Client]) -> None:
    """No 404 of a collection or alias whose creation was acknowledged, whatever is asked first."""
    for here, there in (pair, pair[::-1]):
        for ask in (
            lambda client, name: client.post(f"collections/{name}/search", json={"code_b64": code_of("a")}),
            lambda client, name: client.get(f"collections/{name}"),
            lambda client, name: client.post(f"collections/{name}/points/count", json={}),
            lambda client, name: client.post(f"collections/{name}/points/delete", json={"ids": ["a"]}),
        ):
            name = make(here)
            assert ask(there, name).status_code == 200
            action = {"create": {"alias": f"of-{name}", "collection": name}}
            here.post("aliases", json={"actions": [action]}).raise_for_status()
            assert ask(there, f"of-{name}").status_code == 200
            assert there.get("collections/nobody-made-this").status_code == 404


def test_of_two_who_take_a_name_one_wins(pair: list[httpx.Client]) -> None:
    """As a collection or as an alias; what both write afterwards is in the one collection."""
    target = make(pair[0])
    body = {"code": f"{CODE_BYTES * 8}x1", "shards": 2}
    with ThreadPoolExecutor(2) as threads:
        for round in range(6):
            name = f"raced-{round}"
            as_alias = {"actions": [{"create": {"alias": name, "collection": target}}]}
            other = (
                threads.submit(pair[1].put, f"collections/{name}", json=body)
                if round % 2
                else threads.submit(pair[1].post, "aliases", json=as_alias)
            )
            answers = [pair[0].put(f"collections/{name}", json=body), other.result()]
            assert sorted(answer.is_success for answer in answers) == [False, True], [a.text for a in answers]
            assert {answer.status_code for answer in answers} <= {200, 201, 204, 409}
            before = pair[0].post(f"collections/{name}/points/count", json={"consistency": "strong"}).json()["count"]
            for number, client in enumerate(pair):
                assert write(client, name, [f"{name}-{number}-{i}" for i in range(10)])["applied"] == 10
            for client in pair:
                count = client.post(f"collections/{name}/points/count", json={"consistency": "strong"}).json()["count"]
                assert count == before + 20


def test_one_deletes_a_collection_and_the_other_makes_it_anew(pair: list[httpx.Client]) -> None:
    name = make(pair[0])
    for round in range(3):
        here, there = pair[round % 2], pair[1 - round % 2]
        write(there, name, ["a", "b"])
        here.delete(f"collections/{name}").raise_for_status()
        make(there, name)
        wait_until(
            lambda here=here, name=name: here.post(
                f"collections/{name}/points/count", json={"consistency": "strong"}
            ).json().get("count") == 0,
            "the new one is served",
        )  # fmt: skip
        assert write(here, name, ["c"])["applied"] == 1
        assert there.post(f"collections/{name}/points/count", json={"consistency": "strong"}).json() == {"count": 1}


def test_a_write_at_one_is_in_strong_reads_and_those_with_its_seq_at_the_other(pair: list[httpx.Client]) -> None:
    """The searches find the new code with the new metadata, and as many points as there are."""
    name = make(pair[0])
    for round in range(10):
        here, there = pair[round % 2], pair[1 - round % 2]
        seq = write(here, name, [f"p{i}" for i in range(20)], round=round)["seq"]
        for options in ({"consistency": "strong"}, {"min_seq": seq}):
            for i in (0, 7, 19):
                hits = search(there, name, code_of(f"p{i}{ {'round': round} }"), limit=20, **options)
                assert len(hits) == 20
                assert (hits[0]["id"], hits[0]["distance"]) == (f"p{i}", 0)
                assert {hit["metadata"]["round"] for hit in hits} == {round}
        seq = here.post(f"collections/{name}/points/delete", json={"ids": ["p0", "p1"]}).json()["seq"]
        hits = search(there, name, code_of(f"p0{ {'round': round} }"), limit=18, min_seq=seq)
        assert len(hits) == 18 and not {"p0", "p1"} & {hit["id"] for hit in hits}


def test_patches_of_one_point_by_both_are_all_kept(pair: list[httpx.Client]) -> None:
    name = make(pair[0])
    write(pair[0], name, ["a"])

    def patch(number: int) -> str:
        body = {"ids": ["a"], "set": {f"k{number}": number}}
        return pair[number % 2].post(f"collections/{name}/points/metadata", json=body).text

    with ThreadPoolExecutor(8) as threads:
        assert {text[:12] for text in threads.map(patch, range(240))} == {'{"updated":1'}
    for client in pair:
        (point,) = client.post(f"collections/{name}/points/get", json={"ids": ["a"]}).json()["points"]
        assert point["metadata"] == {f"k{number}": number for number in range(240)}


def test_one_is_killed_and_the_other_has_all_that_was_acknowledged(server: Server, tmp_path: Path) -> None:
    """Also what it writes itself meanwhile. The dead one is a member no more; started again, it has everything too."""
    possible: list[dict[int, dict[str, set[State]]]] = [{}, {}]
    with service_on(server, tmp_path / "one", "kill") as one, service_on(server, tmp_path / "two", "kill") as two:
        create_collection(one)
        writers = [run_writers(one, 0.0, possible[0], 2), run_writers(two, 0.0, possible[1], 2)]
        one.kill()
        join(writers[0])
        writers[1][0].stop.set()
        join(writers[1])
        known = {0: merged(possible[0][0], possible[1][0]), 1: merged(possible[0][1], possible[1][1])}
        catch_up(two)
        assert check(two, known) > 10
        wait_until(lambda: members_of(two) == ["two"], "it is gone")
        one.start()
        catch_up(one)
        assert check(one, known) == check(two, known)


def members_of(service: Service) -> list[str]:
    found = httpx.get(f"{service.url}/v1/members", timeout=PATIENCE_SECONDS).json()["members"]
    return [one["name"] for one in found]


def catch_up(service: Service) -> None:
    """Its views have all that the store has."""
    body = {"consistency": "strong"}
    httpx.post(
        f"{service.url}/v1/collections/docs/points/count", json=body, timeout=PATIENCE_SECONDS
    ).raise_for_status()


def merged(one: dict[str, set[State]], two: dict[str, set[State]]) -> dict[str, set[State]]:
    """Writers of both services write to the same ids: each of their states may be the last one."""
    return {i: one.get(i, set()) | two.get(i, set()) for i in one.keys() | two.keys()}
