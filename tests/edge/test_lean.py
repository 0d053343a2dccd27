"""What is left out of scripts and styles changes nothing that they say."""

import pytest

from mcp_proxy.edge import lean


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("/** Why.\n * More. */\nconst a = 1; // seconds\n", "const a=1;"),
        ("  // why\n  say(a , b);\n", "say(a,b);"),
        ("say(\"a  =  b // c\", '{ , }');", "say(\"a  =  b // c\",'{ , }');"),
        ("say(`a ,  ${ b } /* c */`);", "say(`a ,  ${ b } /* c */`);"),
        (r"const a = /[/ ,;]  \/ = /g;", r"const a=/[/ ,;]  \/ = /g;"),
        ('x.split("\\"; ,");', 'x.split("\\"; ,");'),
        ("const a = b / 2 / c;", "const a=b / 2 / c;"),
        ("const a = [\n  1,\n  { b },\n];", "const a=[1,{b}];"),
        ("for (;;) {\n  a();\n}", "for(;;){a()}"),
        ("async (a) => {\n  await b;\n};", "async(a)=>{await b};"),
        ("return a !== b ? c : d;", "return a!==b?c:d;"),
        ("class A {\n  #b = 1;\n  c() {}\n}", "class A{#b=1;c(){}}"),
    ],
)
def test_a_script_says_the_same_in_fewer_bytes(source: str, left: str) -> None:
    assert lean.script(source) == left


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("a {\n  color: red;\n  margin: 0 1px;\n}\n", "a{color:red;margin:0 1px}"),
        (
            "a:hover, .b .c:focus {\n  width: calc(1px - 2px);\n}",
            "a:hover,.b .c:focus{width:calc(1px - 2px)}",
        ),
        ("@media (max-width: 7px) {\n  a { b: c; }\n}", "@media (max-width:7px){a{b:c}}"),
    ],
)
def test_a_style_sheet_says_the_same_in_fewer_bytes(source: str, left: str) -> None:
    assert lean.style(source) == left
