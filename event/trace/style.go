package trace

// style is the page's. Colours are told apart by lightness, too.
const style = `
:root{--bg:#fff;--fg:#1c2024;--dim:#60646c;--line:#d9dce1;--soft:#f4f5f7;--run:#2f6fde;--pull:#0d8f8f;--push:#7a4fd0;--cached:#b6bcc6;--failed:#cf2f2f;--crit:#b25a00;--ok:#1a7f37}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e6e8eb;--dim:#9aa1ab;--line:#30363d;--soft:#1c2127;--run:#6ea2ff;--pull:#3cc2c2;--push:#b394ff;--cached:#565d68;--failed:#ff6b6b;--crit:#ffb454;--ok:#4cc26a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:14px/1.45 system-ui,"Noto Sans","Noto Sans CJK SC",sans-serif}
main{max-width:1500px;margin:0 auto;padding:20px 24px 60px}
h1{font-size:21px;margin:0 0 4px;overflow-wrap:anywhere}h1 span{font-weight:400}h1 .ok{color:var(--ok)}h1 .bad{color:var(--failed)}
h2{font-size:15px;margin:26px 0 8px}
.facts{color:var(--dim);margin:0;overflow-wrap:anywhere}
.error{border-left:3px solid var(--failed);margin:10px 0;padding:4px 10px;background:var(--soft);overflow-wrap:anywhere}
.tiles{display:flex;flex-wrap:wrap;gap:8px;margin:16px 0 0}.tiles div{background:var(--soft);border-radius:6px;padding:6px 12px}
.tiles dt{color:var(--dim);font-size:12px}.tiles dd{margin:0;font-size:17px;font-variant-numeric:tabular-nums}
.advice{margin:0;padding-left:20px}.advice li{margin:4px 0;overflow-wrap:anywhere}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;color:var(--dim);font-size:12px;margin:0 0 8px}
.legend i{position:static;display:inline-block;width:18px;height:10px;margin-right:6px;vertical-align:-1px}
.chart{border:1px solid var(--line);border-radius:6px;overflow:hidden}
.axis,.row{display:grid;grid-template-columns:minmax(150px,30%) 1fr}
.axis{background:var(--soft);border-bottom:1px solid var(--line);height:24px}
.axis div,.row div{position:relative;margin:0 14px}
.axis b{position:absolute;top:4px;font-weight:400;font-size:11px;color:var(--dim);transform:translateX(-50%)}.axis b:first-child{transform:none}
summary{padding:4px 10px;background:var(--soft);font-weight:600;cursor:pointer;border-top:1px solid var(--line);overflow-wrap:anywhere}
details:first-of-type summary{border-top:0}summary small{color:var(--dim);font-weight:400;margin-left:8px}
.row{height:22px;align-items:center}.row:hover{background:var(--soft)}
.row span{padding-left:24px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis;font-size:13px}
.row div{height:100%}
.bar{position:absolute;top:5px;height:12px;border-radius:2px;background:var(--run)}
.bar.pull{background:var(--pull)}.bar.push{background:var(--push)}.bar.cached{background:var(--cached)}.bar.failed{background:var(--failed)}
.bar.canceled{background:repeating-linear-gradient(45deg,var(--cached) 0 4px,transparent 4px 7px);border:1px solid var(--cached)}.bar.planned{visibility:hidden}
.bar.critical{outline:2px solid var(--crit);outline-offset:1px}
.label{position:absolute;top:2px;font-style:normal;font-size:11px;line-height:18px;color:var(--dim);white-space:nowrap;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;font-size:12.5px;width:100%}th,td{text-align:left;padding:3px 9px;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
th{background:var(--soft);color:var(--dim);font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums}
td.name,td.why{white-space:normal;overflow-wrap:anywhere;min-width:220px}tr.critical td:first-child{box-shadow:inset 3px 0 var(--crit)}
tr:last-child td{border-bottom:0}
@media(max-width:900px){.axis b:nth-child(even){display:none}}
@media(max-width:700px){.axis b:nth-child(4n+3){display:none}main{padding:12px}.axis,.row{grid-template-columns:38% 1fr}}
`
