"""What a file says of applications, by reading it."""

from __future__ import annotations

import pytest

from flowserve.cli.names import choose, is_factory, read_names

CASES = {
    "app = anything()": ["app"],
    "application = anything()\napp = 1": ["app"],
    "app: object = anything()": ["app"],
    "app: object": [],
    "app, router = fast_app()": ["app"],
    "async def app(scope, receive, send): ...": ["app"],
    "async def app(): ...": [],
    "from .factory import application": ["application"],
    "from .factory import wrapped as app": ["app"],
    "from . import app": [],
    "import app": [],
    "try:\n    import uvloop\nfinally:\n    app = make()": ["app"],
    "if True:\n    pass\nelif 1:\n    with open('x') as f:\n        app = make()": ["app"],
    "match 1:\n    case 1:\n        app = make()": ["app"],
    "try:\n    pass\nexcept OSError:\n    app = make()": ["app"],
    "if __name__ == '__main__':\n    app = make()": [],
    "def make():\n    app = FastAPI()": [],
    "def create_app(): ...": ["create_app()"],
    "def create_app(settings=None, *, debug=False): ...": ["create_app()"],
    "def create_app(settings): ...": [],
    "def create_app(*, debug): ...": [],
    "from .factory import make_app": ["make_app()"],
    "create_app = Starlette()": ["create_app"],
    "def app(): return FastAPI()": ["app()"],
    "def app(environ, start_response): ...": ["app"],
    "server = FastAPI()": ["server"],
    "server = fastapi.FastAPI(title='x')": ["server"],
    "server: 'fastapi.FastAPI' = make()": ["server"],
    "server = make()": [],
    "one = FastAPI()\ntwo = Starlette()": ["one", "two"],
    "one = FastAPI()\none = Middleware(one)": ["one"],
    "one = FastAPI()\ndef create_app(): ...": ["create_app()"],
    "async def serve(scope, receive, send): ...": ["serve"],
    "class Own(FastAPI): ...\nown = Own()": ["own"],
    "class Own:\n    async def __call__(self, scope, receive, send): ...\nown = Own()": ["own"],
    "class Other: ...\nother = Other()": [],
    "app = '\\d'": ["app"],  # of which Python warns
}


@pytest.mark.parametrize("source", CASES)
def test_the_name_that_is_meant(source, tmp_path):
    (tmp_path / "main.py").write_text(source)
    names = read_names(tmp_path / "main.py")
    assert [f"{name}()" if is_factory(name, names) else name for name in choose(names)] == CASES[source]


def test_what_the_user_says_of_factories(tmp_path):
    (tmp_path / "main.py").write_text("app = FastAPI()\nserver = FastAPI()\ndef create_app(): ...\n")
    names = read_names(tmp_path / "main.py")
    assert choose(names) == ["app"]
    assert choose(names, factory=True) == ["create_app"]
    assert choose(names, factory=False) == ["app"]
    (tmp_path / "main.py").write_text("def create_app(): ...\n")
    assert choose(read_names(tmp_path / "main.py"), factory=False) == []
    (tmp_path / "main.py").write_text("app = FastAPI()\n")
    assert choose(read_names(tmp_path / "main.py"), factory=True) == []


def test_nothing_is_imported(tmp_path):
    (tmp_path / "main.py").write_text("app = 1\nraise SystemExit('it was run')\n")
    assert choose(read_names(tmp_path / "main.py")) == ["app"]


def test_what_is_not_python(tmp_path):
    (tmp_path / "data.py").write_text("x = '" + "y" * (1 << 20) + "'\napp = 1\n")
    assert read_names(tmp_path / "data.py") == {}
    (tmp_path / "broken.py").write_bytes(b"def app(:\n")
    with pytest.raises(SyntaxError):
        read_names(tmp_path / "broken.py")
    with pytest.raises(OSError):
        read_names(tmp_path / "nowhere.py")
