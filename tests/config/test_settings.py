"""The settings, their limits and their defaults."""

from pathlib import Path

from bebr.config import Limits, Settings, load_settings, machine


def test_the_default_service_needs_nothing_set():
    settings = load_settings({}, {})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.redis_url) == ("127.0.0.1", 8000, None)
    assert settings.bundles_dir == Path("bebr-data/bundles")


def test_the_folder_of_bundles_follows_the_data_folder():
    assert load_settings({"data_dir": "/d"}, {}).bundles_dir == Path("/d/bundles")
    assert load_settings({"data_dir": "/d"}, {"BEBR_BUNDLES_DIR": "/b"}).bundles_dir == Path("/b")


def test_limits_are_the_part_for_engine_and_api():
    limits = load_settings({"max_limit": 5}, {}).limits
    assert type(limits) is Limits
    assert limits.max_limit == 5
    assert limits.memory_bytes == machine.memory_bytes() * 8 // 10
    assert Limits(max_memory_bytes=1000).memory_bytes == 1000


def test_threads_default_to_the_cores_of_the_machine():
    assert Settings().search_thread_count == machine.cores() >= 1
    assert Settings(search_threads=3, encoder_threads=4).encoder_thread_count == 4


def test_workers_share_the_cores_unless_their_threads_are_set():
    cores = machine.cores()
    for workers in (0, 1, 2, cores, 3 * cores):
        settings = Settings(workers=workers)
        expected = max(1, cores // (workers or cores))
        assert (settings.search_thread_count, settings.encoder_thread_count) == (expected, expected)
        assert Settings(workers=workers, search_threads=7, encoder_threads=5).search_thread_count == 7
