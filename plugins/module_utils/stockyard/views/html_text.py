# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of the page, for Jinja with escaping on."""

from __future__ import annotations

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Yard {{ owner }}</title>
<style>
:root { color-scheme: light dark; --line: #8884; --own: #b5562b; --shared: #4d7c8a; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem;
  padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.where { opacity: .7; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; padding: 0;
  list-style: none; }
.figures li { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1.2rem; }
.figures b { display: block; font-size: 1.6rem; }
.bar { background: var(--shared); border-radius: .25rem; height: .8rem; overflow: hidden; }
.bar span { background: var(--own); display: block; height: 100%; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .7rem .35rem 0; text-align: left;
  vertical-align: top; }
td { overflow-wrap: anywhere; } th { font-weight: 600; white-space: nowrap; }
</style>
</head>
<body>
<h1>Yard {{ owner }}</h1>
<div class="where">{{ hypervisor }}, {{ taken }}</div>
<ul class="figures">
{% for name, number in figures %}
<li><b>{{ number }}</b>{{ name }}</li>
{% endfor %}
</ul>
{% if memory.own or memory.shared %}
<h2>Memory of all hosts</h2>
<div class="bar"><span style="width: {{ memory.part }}%"></span></div>
<p>{{ memory.own }} MiB are the hosts' own. {{ memory.shared }} MiB are shared with templates,
counted once for each
host.</p>
{% endif %}
{% for table, rows in tables %}
<h2 id="{{ table.key }}">{{ table.title }}</h2>
{% if rows %}
<div class="scroll"><table>
<thead><tr>{% for column in table.columns %}<th>{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% else %}
<p>{{ table.empty_text }}</p>
{% endif %}
{% endfor %}
</body>
</html>
"""
