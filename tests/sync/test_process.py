"""Signals, forks and interpreter exit, each in a process of its own."""

import os

import pytest
from tests.sync.running import script

pytestmark = pytest.mark.process


def test_a_plain_script():
    out = script("""
        from clusterdb.cache import Cache
        with Cache().sync as cache:
            cache.set("a", 1)
            print(cache.get("a"), cache.get_or_load("b", lambda: 2))
    """)
    assert out == "1 2\n"


@pytest.mark.parametrize("loader", ["lambda: asyncio.Event().wait()", "threading.Event().wait"])
def test_an_interrupt_ends_the_wait(loader):
    """Both while the loop loads for the main thread and while the main thread loads itself."""
    out = script(f"""
        import asyncio, os, signal, threading
        from clusterdb.cache import Cache

        def interrupt():
            while cache.runtime._loads is None or not cache.runtime._loads._flights:
                threading.Event().wait(0.001)
            threading.Event().wait(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        with Cache().sync as cache:
            threading.Thread(target=interrupt).start()
            try:
                cache.get_or_load("a", {loader})
            except KeyboardInterrupt:
                print("interrupted")
            print(cache.get_or_load("b", lambda: 5))
            print(cache.get_or_load("a", lambda: "again"))
            left = [task for task in asyncio.all_tasks(cache.runtime.loop)
                    if "sweep" not in task.get_name()]
            print(left)
    """)
    assert out == "interrupted\n5\nagain\n[]\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_a_fork_after_use(end):
    out = script(
        f"""
        import asyncio, os, sys
        from clusterdb.cache import Cache
        cache = Cache().sync
        cache.set("a", 1)
        cache.get_or_load("b", lambda: 2)
        child = os.fork()
        async def three():
            return 3
        found = cache.get("a"), cache.get_or_load("b", int), cache.get_or_load("c", three)
        found += cache.set("d", 4), list(cache.scan("d"))
        os.write(1, f"{{'parent' if child else 'child'}} {{found}}\\n".encode())  # in one piece
        if not child:
            cache.close()
            {end}
        assert os.waitpid(child, 0)[1] == 0
        print(cache.get_or_load("e", lambda: 5))
        cache.close()
        """,
        "-W",
        "ignore:This process:DeprecationWarning",  # of forking with threads, said since 3.12
    )
    lines = ["5", "child (1, 2, 3, True, ['d'])", "parent (1, 2, 3, True, ['d'])"]
    assert sorted(out.splitlines()) == lines


EXITS = {
    "an open cache": "",
    "an open decorated function": """
        @cache.cached
        def f(x): return x
        f(1)
    """,
    "a running async load": """
        async def hang():
            began.set()
            await asyncio.sleep(3600)
        began = threading.Event()
        start(lambda: cache.get_or_load("b", hang))
        began.wait(30)
    """,
    "a running blocking load": """
        def hang():
            began.set()
            time.sleep(3600)
        began = threading.Event()
        start(lambda: cache.get_or_load("b", hang))
        began.wait(30)
    """,
    "an async load that won't be cancelled": """
        async def stubborn():
            began.set()
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass
        began = threading.Event()
        start(lambda: cache.get_or_load("b", stubborn))
        began.wait(30)
    """,
    "a thread that waits for events": """
        def listen():
            with cache.subscribe() as events:
                entered.set()
                for _ in events:
                    pass
        entered = threading.Event()
        start(listen)
        entered.wait(30)
    """,
    "a scan under way": "keys = cache.scan(); next(keys)",
    "an exit handler that uses it": """
        atexit.register(lambda: cache.get_or_load("last", lambda: 5))
    """,
}


@pytest.mark.parametrize("left", EXITS.values(), ids=EXITS)
def test_the_interpreter_exits_quietly_with(left):
    lines = [line.removeprefix("        ") for line in left.splitlines()]
    out = script(
        """
import asyncio, atexit, threading, time
from clusterdb.cache import Cache
def start(function): threading.Thread(target=function, daemon=True).start()
cache = Cache().sync
cache.set_many({str(number): number for number in range(3000)})
"""
        + "\n".join(lines)
        + "\nprint('done')\n"
    )
    assert out == "done\n"
