"""The page in a real browser: its numbers, a whole training, and what it refuses."""

from __future__ import annotations

import base64
import io
import re
import socket
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import inshape
from inshape.data.decode import load
from inshape.data.prepare import Preparation
from inshape.studio import app, jobs
from inshape.studio.files import Files
from inshape.studio.request import StudioRequest
from inshape.writing import read_json

# Gradio's own and its server's, in threads that outlive a test.
pytestmark = pytest.mark.filterwarnings("ignore")

NASTY = "<img src=x onerror=alert(1)>"
BACKBONE = "MobileNetV3Small-minimalistic"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def served(request):
    pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'inshape[studio]'")
    page, options = app.build(request)
    _, address, _ = page.launch(**options, prevent_thread_lock=True)
    try:
        yield address, options
    finally:
        page.close(verbose=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Digits in two classes, one of a name that no page may run."""
    folder = tmp_path_factory.mktemp("studio")
    digits = load_digits()
    for digit, label in ((0, NASTY), (1, "one")):
        (folder / "digits" / label).mkdir(parents=True)
        for i, picture in enumerate(digits.images[digits.target == digit][:80]):
            pixels = np.round(picture * (255 / 16)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "digits" / label / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def address(root):
    with served(StudioRequest(root, port=free_port())) as (address, _):
        yield address


@contextmanager
def opened(browser, address, width=1280, **context):
    """A page, and what it asked of other machines or complained of."""
    page = browser.new_page(viewport={"width": width, "height": 900}, **context)
    log = []
    page.on("console", lambda m: log.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: log.append(str(error)))
    page.on("dialog", lambda dialog: (log.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:"))
            else log.append(r.url))  # fmt: skip
    page.set_default_timeout(240_000)
    page.goto(address)
    try:
        yield page
        assert log == []
    finally:
        page.close()


def choose(page, place, value):
    """From the list, where it is there: Enter right after a name takes what the list had before."""
    page.fill(f"{place} input", value)
    listed = page.get_by_role("option", name=value, exact=True)
    if listed.count():
        listed.click(timeout=10_000)
    else:
        page.press(f"{place} input", "Enter")


def pixels_of(page, place):
    """The picture that an element shows, as it was sent."""
    source = page.get_attribute(f"{place} img", "src")
    content = page.evaluate(
        """async url => {
            const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
            return btoa(Array.from(bytes, b => String.fromCharCode(b)).join(''));
        }""",
        source,
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def show_shape(page, height, width):
    choose(page, "#backbone", BACKBONE)
    for place, value in (("#height", height), ("#width", width)):
        page.fill(f"{place} input[type=number]", str(value))
        page.press(f"{place} input[type=number]", "Tab")
    page.wait_for_selector(f"#drawing >> text={height}×{width}×3 takes")


def test_sliders_show_what_the_plan_says(browser, address):
    plan = inshape.plan(BACKBONE, "97x64x3", classes=5)
    with opened(browser, address) as page:
        show_shape(page, 97, 64)
        drawing = page.inner_text("#drawing")
        for stage in plan.geometry.stages[:-1]:
            assert f"{str(stage.map_size).replace('x', '×')}×{stage.channels}" in drawing
        # The drawing comes first, and what stood beside it before stays for as long.
        final_map = str(plan.geometry.final_map).replace("x", "×")
        page.wait_for_selector(f"#strategies tr.best >> text={final_map}")
        assert plan.strategy in page.inner_text("#strategies tr.best")
        page.wait_for_selector("#command .cm-content >> text=97x64x3")
        assert "inshape inspect MobileNetV3Small-minimalistic 97x64x3" in re.sub(
            r"\s+", " ", page.inner_text("#command .cm-content")
        )
        # The words of a limit that cannot be read are said, and a limit is kept to.
        page.get_by_text("What the device allows").click()
        page.fill("#max-ram textarea, #max-ram input", "1KiB")
        page.wait_for_selector("#strategies >> text=is over 1.0 KiB")
        page.fill("#max-ram textarea, #max-ram input", "much")
        page.wait_for_selector("#strategies [role=alert] >> text=max_ram='much'")


def test_a_picture_is_drawn_as_the_model_sees_it(browser, address, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / f"{NASTY}.png"
    Image.fromarray(rng.integers(0, 255, (50, 120, 3), np.uint8)).save(path)
    with opened(browser, address) as page:
        show_shape(page, 97, 64)
        page.set_input_files("#own-picture input[type=file]", path)
        for fit in ("stretch", "letterbox", "crop"):
            # It is loaded once it is scrolled to.
            page.wait_for_selector(f"#as-{fit} img", state="attached")
            shown = pixels_of(page, f"#as-{fit}")[::3, ::3]  # 384 // 97 times as large
            expected = load(path, Preparation.of("97x64x3", fit=fit))
            np.testing.assert_array_equal(shown, expected)
        before = page.get_attribute("#as-crop img", "src")
        page.locator("#as-stretch").scroll_into_view_if_needed()
        page.click("#as-stretch img", position={"x": 40, "y": 40})
        page.wait_for_function(
            "before => document.querySelector('#as-crop img').src !== before", arg=before
        )
        marked = (pixels_of(page, "#as-crop") == (255, 96, 0)).all(axis=-1)
        assert marked.any()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_every_tab_whole(browser, address, scheme):
    with opened(browser, address, 390, color_scheme=scheme) as page:
        page.wait_for_selector("#strategies tbody tr")
        for tab in ("Train", "Compare", "Try", "Shape"):
            page.get_by_role("tab", name=tab).click()
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_cannot_be_started_is_said_in_text(browser, address):
    with opened(browser, address) as page:
        page.get_by_role("tab", name="Train").click()
        choose(page, "#source", f"../{NASTY}")
        page.click("#start")
        text = page.inner_text("#train-trouble [role=alert]")
        assert f"../{NASTY}' is not below the studio's folder" in text


@pytest.mark.slow
def test_a_training_from_the_first_click_to_a_download(browser, address, root):
    files = Files.of(root)
    picture = next((root / "digits" / NASTY).iterdir())
    with opened(browser, address) as page:
        page.get_by_role("tab", name="Train").click()
        choose(page, "#source", "digits")
        choose(page, "#train-backbone", BACKBONE)
        page.locator("#weights").get_by_label("demo").check()
        page.fill("#size textarea, #size input", "24x24x1")
        page.fill("#epochs input[type=number]", "30")
        page.press("#epochs input[type=number]", "Tab")
        page.fill("#out textarea, #out input", "runs/a")
        page.click("#start")
        page.wait_for_selector("#status >> text=/[1-9] epochs/")
        page.click("#stop")
        page.wait_for_selector("#status >> text=Stopped")
        assert inshape.Run.open(root / "runs" / "a").status == "interrupted"
        page.click("#resume")
        page.wait_for_selector("#status >> text=Running")
    # It goes on without the page.
    job = jobs.find(files, "train", root / "runs" / "a")
    assert job.is_running
    with opened(browser, address) as page:
        page.get_by_role("tab", name="Train").click()
        choose(page, "#run", "runs/a")
        page.wait_for_selector("#status >> text=Complete")
        page.wait_for_timeout(2500)
        run = inshape.Run.open(root / "runs" / "a")
        columns = ("loss", "val_loss", "val_accuracy")
        points = sum(1 for row in run.history_rows() for name in columns if row[name])
        assert page.locator("#curve .scatterlayer .points path").count() == points
        assert f"validation accuracy {run.record['metrics']['validation']['accuracy']:.4f}" in (
            page.inner_text("#status")
        )
        page.get_by_role("tab", name="Try").click()
        choose(page, "#asked", "runs/a")
        page.set_input_files("#question input[type=file]", picture)
        page.wait_for_selector("#replies >> text=model.keras")
        expected = inshape.predict(run, [picture])[0]
        replies = page.inner_text("#replies").replace("\xa0", " ")
        assert f"{expected.label} {100 * expected.probability:.1f} %" in replies
        page.wait_for_selector("#heat img", state="attached")
        page.click("#export")
        page.wait_for_selector("#replies >> text=model-int8.tflite")
        page.wait_for_selector("#replies >> text=model.tflite")
        with page.expect_download() as download:
            page.locator("#files a[download='model-int8.tflite']").click()
        content = download.value.path().read_bytes()
        assert content == (root / "runs" / "a" / "exports" / "model-int8.tflite").read_bytes()


def test_pictures_come_by_zip_and_by_webcam(browser, address, root, tmp_path):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for label in ("one", NASTY):
            picture = next((root / "digits" / label).iterdir())
            file.write(picture, f"mine/{label}/0.png")
        file.writestr("mine/one/1.txt", "no picture")
    with opened(browser, address) as page:
        page.get_by_role("tab", name="Train").click()
        page.get_by_text("Bring pictures").click()
        page.fill("#folder textarea, #folder input", "brought")
        page.set_input_files("#archive input[type=file]", archive)
        page.wait_for_function(
            "() => document.querySelector('#source input').value === 'brought/mine'"
        )
        mine = root / "brought" / "mine"
        assert sorted(p.relative_to(mine).as_posix() for p in mine.rglob("*.*")) == [
            f"{NASTY}/0.png",
            "one/0.png",
        ]
        for number, label in enumerate((NASTY, NASTY, "../one"), 2):
            page.fill("#label textarea, #label input", label)
            page.locator("#photo").get_by_text("Click to Access Webcam").click()
            page.wait_for_function("() => document.querySelector('#photo video')?.videoWidth > 0")
            page.locator("#photo [aria-label='capture photo']").click()
            page.wait_for_selector("#photo [aria-label='capture photo']", state="detached")
            page.click("#add")
            if label == NASTY:
                page.wait_for_selector(f"#photo >> text={label} has {number} pictures")
        page.wait_for_selector("#train-trouble >> text='../one' cannot name a folder")
        _, *taken = sorted((mine / NASTY).iterdir())
        assert len(taken) == 2
        assert all(min(Image.open(path).size) > 100 for path in taken)


@pytest.mark.slow
def test_a_comparison_is_drawn_as_its_record_says(browser, address, root):
    candidates = root / "compared" / "candidates"
    with opened(browser, address) as page:
        page.get_by_role("tab", name="Compare").click()
        choose(page, "#compared", "digits")
        page.press("#compared-backbones input", "Backspace")
        choose(page, "#compared-backbones", BACKBONE)
        page.locator("#compared-weights").get_by_label("demo").check()
        page.fill("#shapes textarea, #shapes input", "24x24x1")
        page.fill("#compare-out textarea, #compare-out input", "compared")
        page.click("#compare")
        page.wait_for_selector("#compare-status >> text=Running")
        while not list(candidates.glob("*.json")):
            page.wait_for_timeout(100)
        page.click("#compare-stop")
        page.wait_for_selector("#compare-status >> text=Stopped")
    # It goes on from another page, which lists it.
    with opened(browser, address) as page:
        page.get_by_role("tab", name="Compare").click()
        page.click("#comparison input")
        page.get_by_role("option", name="compared").click()
        page.wait_for_selector("#compare-status >> text=Stopped")
        page.click("#compare-resume")
        page.wait_for_selector("#compare-status >> text=Complete")
        record = read_json(root / "compared" / "comparison.json")
        reason = " ".join(record["recommendation"]["reason"].split())
        assert reason in page.inner_text("#compare-status")
        known = [c for c in record["candidates"] if c["latency_ms"] is not None]
        page.wait_for_selector("#pareto .scatterlayer .points path")
        assert page.locator("#pareto .scatterlayer .points path").count() == len(known)


def status_of(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_only_its_own_page_is_answered(address):
    assert status_of(address) == 200
    assert status_of(address, Origin=address.rstrip("/")) == 200
    assert status_of(address, Origin="http://elsewhere.example") == 403
    assert status_of(address, Origin="null") == 403
    assert status_of(address, Host="elsewhere.example") == 403  # DNS rebinding


def test_no_file_of_the_machine_is_handed_out(address, root):
    picture = next((root / "digits" / "one").iterdir())
    for path in (picture, root / ".inshape" / "jobs", "/etc/passwd"):
        assert status_of(f"{address}gradio_api/file={path}") in (403, 404)


def test_elsewhere_it_asks_for_a_password(browser, tmp_path):
    request = StudioRequest(tmp_path, host="0.0.0.0", port=free_port())
    with served(request) as (_, options):
        user, password = options["auth"]
        assert len(password) >= 16
        address = f"http://127.0.0.1:{request.port}/"
        assert status_of(f"{address}config") == 401
        with opened(browser, address) as page:
            page.wait_for_selector("input[type=password]")
            page.fill("input[type=text]", user)
            page.fill("input[type=password]", password)
            page.get_by_role("button", name="Login").click()
            page.wait_for_selector("#strategies tbody tr")
