"""Who gets which of the long tests: see tests/conftest.py."""

from collections import OrderedDict

from stationmaster.lab.wish import CHECKOUT
from tests.conftest import LABS, LONG, SHARED, ByLab


def test_what_is_put_in_order_is_there():
    assert [path for path in (*LABS, *LONG, *SHARED) if not (CHECKOUT / path).exists()] == []


class Process:
    """One that runs tests, and the files that it was given."""

    def __init__(self, tests):
        self.tests, self.given = tests, []

    def send_runtest_some(self, indexes):
        self.given += [self.tests[index].partition("::")[0] for index in indexes]


def test_labs_go_to_all_but_the_last_process_and_whoever_has_time_takes_the_rest():
    files = ["tests/new/test_a.py", LONG[1], LABS[2], LONG[0], LABS[1], "tests/new/test_b.py"]
    tests = [f"{file}::test" for file in files]
    first, second, last = processes = [Process(tests) for _ in range(3)]
    scheduling = object.__new__(ByLab)
    scheduling.assigned_work = {process: {} for process in processes}
    scheduling.registered_collections = dict.fromkeys(processes, tests)
    scheduling.workqueue = OrderedDict((file, {f"{file}::test": False}) for file in files)
    for process in (first, second, last, first, last, second):
        scheduling._assign_work_unit(process)
    assert (first.given, second.given, last.given) == (
        [LABS[1], LONG[1]],
        [LABS[2], "tests/new/test_b.py"],
        [LONG[0], "tests/new/test_a.py"],
    )
