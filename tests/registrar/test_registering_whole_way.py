"""The rules of registering once more, with the short way closed: both ways are held to the same tables."""

from inspect import isclass

from tests.registrar import test_registering, test_registering_flows
from tests.registrar.test_registering import RegisteringCase

for _tables in (test_registering, test_registering_flows):
    for _name, _case in list(vars(_tables).items()):
        if isclass(_case) and issubclass(_case, RegisteringCase) and _name.endswith("Tests"):
            globals()[f"WholeWay{_name}"] = type(f"WholeWay{_name}", (_case,), {
                "takes_short_way": False, "__module__": __name__, "__doc__": f"{_name} by the whole way alone."})
