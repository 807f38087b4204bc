"""Writes docs/clients.md from the OpenAPI document of a running server.

    .venv/bin/python docs/clients.py http://127.0.0.1:3000

Route, body and headers are those of the document; the programs around them are templates here. A test writes
the page again from a live server, compares it with the committed one, and runs each program whose tool is on
the machine. The program in C# keeps to what Mono's compiler reads, which Debian has; .NET reads the same.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).with_name("clients.md")
ROUTE = "/predict"
SHOWN = "http://localhost:3000"
TIMEOUT_S = 10


class Program(NamedTuple):
    """A request in one language, to `URL` with the body `BODY`; it prints the reply.

    Parameters
    ----------
    fence
        The language of its block in the page.
    file
        The name that its text is saved under to run it.
    quoted
        Writes the body, a JSON text in ASCII, as the language writes a text.
    """

    title: str
    fence: str
    file: str
    quoted: Callable[[str], str]
    text: str


def in_go(body: str) -> str:
    """A raw string, or a JSON string where the body has the mark of a raw one."""
    return json.dumps(body) if "`" in body else f"`{body}`"


def in_java(body: str) -> str:
    """The content of a text block."""
    return body.replace("\\", "\\\\")


def in_csharp(body: str) -> str:
    """A verbatim string."""
    doubled = body.replace('"', '""')
    return f'@"{doubled}"'


PROGRAMS = (
    Program(
        "curl",
        "sh",
        "client.sh",
        shlex.quote,
        """curl URL -H 'Content-Type: application/json' -d BODY
""",
    ),
    Program(
        "Python, requests",
        "python",
        "with_requests.py",
        repr,
        """import requests

headers = {"Content-Type": "application/json"}
body = BODY
session = requests.Session()  # keeps its connection
reply = session.post("URL", data=body, headers=headers, timeout=10)
reply.raise_for_status()
print(reply.json()["prediction"])
""",
    ),
    Program(
        "Python, httpx",
        "python",
        "with_httpx.py",
        repr,
        """import httpx

headers = {"Content-Type": "application/json"}
body = BODY
with httpx.Client(timeout=10) as client:
    reply = client.post("URL", content=body, headers=headers)
    reply.raise_for_status()
    print(reply.json()["prediction"])
""",
    ),
    Program(
        "JavaScript",
        "javascript",
        "client.mjs",
        str,
        """const reply = await fetch("URL", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(BODY),
});
if (!reply.ok) throw new Error(`${reply.status}: ${await reply.text()}`);
console.log((await reply.json()).prediction);
""",
    ),
    Program(
        "Go",
        "go",
        "client.go",
        in_go,
        """package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"
)

func main() {
	client := &http.Client{Timeout: 10 * time.Second}
	reply, err := client.Post("URL", "application/json", strings.NewReader(BODY))
	if err != nil {
		log.Fatal(err)
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		problem, _ := io.ReadAll(reply.Body)
		log.Fatalf("%s: %s", reply.Status, problem)
	}
	var found struct {
		Prediction []any
	}
	if err := json.NewDecoder(reply.Body).Decode(&found); err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Prediction)
}
""",
    ),
    Program(
        "Java",
        "java",
        "Client.java",
        in_java,
        '''import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

class Client {
    public static void main(String[] arguments) throws Exception {
        String body = """
            BODY""";
        HttpRequest request = HttpRequest.newBuilder(URI.create("URL"))
            .timeout(Duration.ofSeconds(10))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
        var reply = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
        if (reply.statusCode() != 200) {
            throw new IllegalStateException(reply.statusCode() + ": " + reply.body());
        }
        System.out.println(reply.body());
    }
}
''',
    ),
    Program(
        "C#",
        "csharp",
        "Client.cs",
        in_csharp,
        """using System;
using System.Net.Http;
using System.Text;
using System.Threading.Tasks;

class Client
{
    static async Task<string> Predict()
    {
        using (var client = new HttpClient { Timeout = TimeSpan.FromSeconds(10) })
        {
            var body = new StringContent(BODY, Encoding.UTF8, "application/json");
            var reply = await client.PostAsync("URL", body);
            var text = await reply.Content.ReadAsStringAsync();
            if (!reply.IsSuccessStatusCode)
                throw new HttpRequestException($"{(int)reply.StatusCode}: {text}");
            return text;
        }
    }

    static void Main()
    {
        Console.WriteLine(Predict().GetAwaiter().GetResult());
    }
}
""",
    ),
)


def programs(document: dict[str, Any], base: str = SHOWN) -> list[Program]:
    """The programs for the default model of a document.

    Parameters
    ----------
    base
        The address of the server that they ask.
    """
    examples = document["paths"][ROUTE]["post"]["requestBody"]["content"]["application/json"]["examples"]
    body = json.dumps(examples["features"]["value"])
    return [_filled(found, {"URL": base + ROUTE, "BODY": found.quoted(body)}) for found in PROGRAMS]


def _filled(program: Program, words: dict[str, str]) -> Program:
    return program._replace(text=re.sub("|".join(words), lambda word: words[word[0]], program.text))


def page(document: dict[str, Any]) -> str:
    """The page for the default model of a document."""
    post = document["paths"][ROUTE]["post"]
    headers = [f"| `{each['name']}` | {each['description']} |" for each in post["parameters"]]
    statuses = [
        f"| {status} | {told['description']} |"
        for status, told in post["responses"].items()
        if status != "200"
    ]
    blocks = [f"## {each.title}\n\n```{each.fence}\n{each.text}```\n" for each in programs(document)]
    return "\n".join(
        (
            "# Clients\n",
            f"One request to `POST {ROUTE}` in each language: one row by position, in the order of",
            "`/models/{name}`, to the default model. [Protocols](protocols.md) has the other forms. A server",
            "with keys wants the header `X-API-Key` as well. Tests run these programs where their tools are",
            "installed. The one in C# is for .NET and Mono (`mcs -r:System.Net.Http.dll Client.cs`); tests",
            "compile it with Mono.\n",
            *blocks,
            "## Headers and statuses\n",
            "| header | meaning |\n|---|---|",
            *headers,
            "\n| status | meaning |\n|---|---|",
            *statuses,
            "\nA refusal is `application/problem+json`: `detail` says what is wrong, `errors` where.",
            "Repeat a request after 429 and 503 only, after the seconds of `Retry-After`.\n",
            "`make clients` writes this page from the OpenAPI of a running server.\n",
        )
    )


def fetched(base: str) -> Any:
    """The OpenAPI document of a server."""
    with urllib.request.urlopen(f"{base}/openapi.json", timeout=TIMEOUT_S) as reply:  # noqa: S310 - as given
        return json.load(reply)


if __name__ == "__main__":
    PAGE.write_text(page(fetched(sys.argv[1].rstrip("/"))))
