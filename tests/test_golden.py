"""What is generated and committed is what the code generates. `make golden` writes it again."""

import pytest

from tests.regenerate import (
    ROOT,
    adarec_page,
    compiled,
    derrd_page,
    dnsrec_page,
    errors_page,
    golden_files,
    normalised,
    performance_page,
    serving_page,
    settings_page,
)

PAGES = {
    "errors.md": errors_page,
    "settings.md": settings_page,
    "performance.md": performance_page,
    "adarec.md": adarec_page,
    "derrd.md": derrd_page,
    "serving.md": serving_page,
    "dnsrec.md": dnsrec_page,
}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.parent.name)
def test_compiled_yaml(path, tmp_path):
    text = compiled(golden_files()[path], tmp_path)
    assert normalised(text) == normalised(path.read_text(encoding="utf-8"))
    assert "pip install" not in text and "packages_to_install" not in text


@pytest.mark.parametrize(("name", "make"), PAGES.items())
def test_generated_pages(name, make):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == make()
