from lit_rl.report.animation import TEXT, Animation


def test_the_last_frame_stands_in_the_markup():
    animation = Animation(3)
    assert (
        animation.element("circle", {"r": 2}, {"cx": ["1", "5", "9"]})
        == '<circle r="2" cx="9" data-moves="0"></circle>'
    )
    assert animation.element("p", {}, {TEXT: ["a", "a", "<b"]}) == '<p data-moves="1">&lt;b</p>'
    assert animation.tracks == [[0, "cx", ["1", "5", "9"]], [1, "", ["a", None, "<b"]]]


def test_what_never_moves_has_no_track():
    animation = Animation(2)
    assert animation.element("g", {}, {"x": ["1", "1"]}, "<i></i>") == '<g x="1"><i></i></g>'
    assert animation.tracks == []


def test_data_for_the_script():
    animation = Animation(2)
    animation.element("p", {}, {TEXT: ["</script>", "b"]})
    assert animation.data(50) == {"frames": 2, "ms": 50, "tracks": [[0, "", ["</script>", "b"]]]}
