"""`flowserve main.py`, `flowserve main` and `flowserve` alone: which application that is."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys

import pytest
from support.programs import Program, clean_environment

from flowserve.cli.discovery import applications_below, applications_in, find_application, module_file
from flowserve.errors import ConfigError

ASGI = "async def app(scope, receive, send): ...\n"
FACTORY = "def create_app(): ...\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """tree({path: source}): makes these files in the current folder, which is empty otherwise."""
    monkeypatch.chdir(tmp_path)

    def make(files):
        for name, source in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return tmp_path

    return make


def found(*args, **options):
    """What is found, in short: module:attribute, with () for a factory, folder, file."""
    result = find_application(*args, **options)
    return result and (result.app + "()" * result.factory, result.app_dir, result.file)


def refusal(*args, **options):
    with pytest.raises(ConfigError) as raised:
        find_application(*args, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# Without APP


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"main.py": ASGI, "app.py": ASGI}, ("main:app", "", "main.py")),
        ({"main.py": "x = 1", "app.py": ASGI}, ("app:app", "", "app.py")),
        ({"api.py": FACTORY}, ("api:create_app()", "", "api.py")),
        ({"asgi.py": "application = 1"}, ("asgi:application", "", "asgi.py")),
        ({"app/main.py": ASGI}, ("main:app", "app", "app/main.py")),
        ({"app/__init__.py": "", "app/main.py": ASGI}, ("app.main:app", "", "app/main.py")),
        ({"app/__init__.py": ASGI, "app/main.py": ASGI}, ("app:app", "", "app/__init__.py")),
        ({"shop/__init__.py": "", "shop/api.py": ASGI}, ("shop.api:app", "", "shop/api.py")),
        ({"src/shop/__init__.py": FACTORY}, ("shop:create_app()", "src", "src/shop/__init__.py")),
        ({"tests/__init__.py": ASGI, "shop/__init__.py": ASGI}, ("shop:app", "", "shop/__init__.py")),
        (
            {"manage.py": "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_.settings.dev')",
             "site_/__init__.py": "", "site_/asgi.py": "application = get_asgi_application()",
             "blog/__init__.py": ASGI},
            ("site_.asgi:application", "", "site_/asgi.py"),
        ),
    ],
)  # fmt: skip
def test_where_it_is_looked_for(tree, files, wanted):
    tree(files)
    assert found(None) == wanted


def test_in_the_folder_of_app_dir(tree):
    tree({"main.py": ASGI, "code/main.py": FACTORY, "code/src/main.py": ASGI})
    assert found(None, app_dir="code") == ("main:create_app()", "code", "code/main.py")
    (tree({}) / "code" / "main.py").unlink()
    assert "no application found: none of main.py, " in refusal(None, app_dir="code")


def test_nothing_is_found(tree):
    folder = tree({})
    assert refusal(None) == (
        f"no application found: none of main.py, app.py, api.py, asgi.py and no package is in {folder};"
        " write a file or module:attribute, e.g. flowserve main.py or flowserve main:app"
    )
    tree({"main.py": "x = 1", "shop/__init__.py": "", "shop/main.py": "y = 1"})
    assert refusal(None) == (
        "no application found: none of app, application, create_app, make_app and no single application of another"
        " name is in main.py, shop/__init__.py, shop/main.py; name yours, e.g. flowserve main:server"
    )


def test_several_are_found(tree):
    folder = tree({"one/__init__.py": ASGI, "two/__init__.py": FACTORY})
    told = f"there are several applications; name one of one:app, two:create_app, in the packages of {folder}"
    assert refusal(None) == told
    tree({"main.py": "one = FastAPI()\ntwo = FastAPI()\n"})
    assert refusal(None) == "there are several applications; name one of main:one, main:two, in main.py"
    assert refusal("main.py") == refusal(None)


def test_what_is_not_python_is_no_secret(tree):
    tree({"main.py": "\n\ndef app(:\n"})
    assert re.fullmatch(r"main\.py, line 3: .*invalid syntax.*", refusal(None))


# With APP


@pytest.mark.parametrize(
    ("app", "wanted"),
    [
        ("main.py", ("main:app", "", "main.py")),
        ("./main.py", ("main:app", "", "main.py")),
        ("main", ("main:app", "", "main.py")),
        ("some/dir/run.py", ("run:create_app()", "some/dir", "some/dir/run.py")),
        ("some/dir/run.py:other.app", ("run:other.app", "some/dir", "some/dir/run.py")),
        ("some.dir.run", ("some.dir.run:create_app()", "", "some/dir/run.py")),
        ("some/pkg/sub/main.py", ("pkg.sub.main:app", "some", "some/pkg/sub/main.py")),
        ("some/pkg/", ("pkg.main:app", "some", "some/pkg/main.py")),
        ("shop", ("shop.api:app", "", "shop/api.py")),
        ("shop.api", ("shop.api:app", "", "shop/api.py")),
        (".", ("main:app", "", "main.py")),
        ("plain", ("main:app", "plain", "plain/main.py")),
    ],
)
def test_ways_to_name_it(tree, app, wanted):
    tree(
        {
            "main.py": ASGI,
            "some/dir/run.py": FACTORY,
            "some/pkg/__init__.py": "",
            "some/pkg/main.py": ASGI,
            "some/pkg/sub/__init__.py": "",
            "some/pkg/sub/main.py": ASGI,
            "shop/__init__.py": "",
            "shop/api.py": ASGI,
            "plain/main.py": ASGI,
        }
    )
    assert found(app) == wanted


def test_with_app_dir(tree):
    tree({"code/pkg/__init__.py": ASGI, "code/main.py": ASGI, "other/main.py": ASGI})
    assert found("main.py", app_dir="code") == ("main:app", "code", "code/main.py")
    assert found("code/main.py", app_dir="code") == ("main:app", "code", "code/main.py")
    assert found("code/pkg/__init__.py", app_dir="code") == ("pkg:app", "code", "code/pkg/__init__.py")
    assert found("pkg", app_dir="code") == ("pkg:app", "code", "code/pkg/__init__.py")
    assert found("other/main.py", app_dir="code") == ("main:app", "other", "other/main.py")


def test_with_factory(tree):
    tree({"main.py": ASGI + FACTORY})
    assert found("main.py", factory=True) == ("main:create_app()", "", "main.py")
    assert found("main.py:app", factory=True) == ("main:app()", "", "main.py")
    (tree({}) / "main.py").write_text(ASGI)
    told = "none of create_app, make_app is in main.py; name yours, e.g. main:server"
    assert refusal("main.py", factory=True) == told


def test_outside_of_the_current_folder(tree, monkeypatch):
    folder = tree({"here/x.py": "", "there/pkg/__init__.py": ASGI})
    monkeypatch.chdir(folder / "here")
    assert found("../there/pkg/__init__.py")[:2] == ("pkg:app", str(folder / "there"))


def test_a_link_stays_one(tree):
    """As a release that is current now; after the next one is deployed, the worker starts from that."""
    folder = tree({"releases/1/main.py": ASGI})
    os.symlink("releases/1", folder / "current")
    assert found("current/main.py") == ("main:app", "current", "current/main.py")


def test_module_and_attribute_are_left_alone(tree):
    tree({"main.py": ASGI})
    assert found("main:other") is None
    assert found("nowhere:app") is None
    assert found("nowhere.py:app") is None


def test_an_installed_module(tree):
    tree({})
    assert found("support.deployed")[:2] == ("support.deployed:app", "")


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("nowhere.py", "'nowhere.py': there is no such file or folder in "),
        ("no/where", "'no/where': there is no such file or folder in "),
        ("no\0where.py", "there is no such file or folder in "),
        ("nowhere", "'nowhere': there is no such file, folder or module in "),
        ("a..b", "'a..b': there is no such file, folder or module in "),
        ("no-where", "write a file or module:attribute, e.g. main:app"),
        ("empty.py", "none of app, application, create_app, make_app and no single application of another name is in"),
        ("two.dots.py", "two.dots.py can't be imported: a dot stands in the name of the file or of its folder"),
        ("data.py", "data.py is not a Python file|data.py: source code"),
    ],
)
def test_what_is_not_there(tree, app, told):
    tree({"empty.py": "", "two.dots.py": ASGI, "data.py": "\0"})
    assert any(part in refusal(app) for part in told.split("|"))


async def test_workers_import_what_was_found(tree):
    """They get the module and its folder."""
    tree({"some/pkg/__init__.py": "", "some/pkg/main.py": "from pkg import beside\n" + ASGI, "some/pkg/beside.py": ""})
    program = Program(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flowserve", "some/pkg/main.py", "--workers", "2", "--port", "0"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
            start_new_session=True,
        )
    )
    try:
        await program.logged("2 workers serve on ")
        assert "Serving pkg.main:app from some/pkg/main.py" in await program.stop()
    finally:
        await program.kill()


# For completion


def test_applications_for_completion(tree):
    folder = tree(
        {
            "main.py": "app = 1\nother = FastAPI()\n",
            "setup.py": ASGI,
            "test_main.py": ASGI,
            "broken.py": "(",
            "shop/__init__.py": "",
            "shop/api.py": ASGI,
            "shop/admin/__init__.py": FACTORY,
            "plain/main.py": ASGI,
        }
    )
    assert applications_in(folder / "main.py") == ["app", "other"]
    assert applications_in(folder / "broken.py") == applications_in(folder / "nowhere.py") == []
    wanted = ["main:app", "main:other", "shop.api:app", "shop.admin:create_app"]
    assert list(applications_below(folder)) == wanted
    assert module_file("shop.api", "") == folder / "shop" / "api.py"
    assert module_file("plain", "") is module_file("nowhere", "") is None
