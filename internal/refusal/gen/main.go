// Command gen writes what is derived from codes.json: code.go, the table of docs/protocol.md, and sdk/src/codes.ts.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/format"
	"log"
	"os"
	"strings"
)

type entry struct {
	Code   string `json:"code"`
	Status int    `json:"status"`
	Retry  string `json:"retry"`
	En     string `json:"en"`
	Ko     string `json:"ko"`
}

func main() {
	log.SetFlags(0)
	// go generate runs in internal/refusal.
	raw, err := os.ReadFile("codes.json")
	check(err)
	var codes []entry
	check(json.Unmarshal(raw, &codes))

	check(os.WriteFile("code.go", goSource(codes), 0o644))
	check(os.WriteFile("../../sdk/src/codes.ts", tsSource(codes), 0o644))
	const page = "../../docs/protocol.md"
	doc, err := os.ReadFile(page)
	check(err)
	check(os.WriteFile(page, replaceTable(doc, codes), 0o644))
}

func goSource(codes []entry) []byte {
	var b bytes.Buffer
	b.WriteString("// Code generated from codes.json by gen; DO NOT EDIT.\n\npackage refusal\n\nconst (\n")
	for _, c := range codes {
		name := ""
		for _, part := range strings.Split(c.Code, "_") {
			name += strings.ToUpper(part[:1]) + part[1:]
		}
		fmt.Fprintf(&b, "%s Code = %q // %s\n", name, c.Code, c.En)
	}
	b.WriteString(")\n")
	out, err := format.Source(b.Bytes())
	check(err)
	return out
}

func tsSource(codes []entry) []byte {
	var b bytes.Buffer
	b.WriteString("// Generated from internal/refusal/codes.json by `go generate ./internal/refusal`; do not edit.\n\n")
	b.WriteString("/** What helps after a refusal. */\nexport type Retry = \"never\" | \"later\" | \"resume\" | \"join\";\n\n")
	b.WriteString("/** Every reason for which a server refuses something, with what helps and a sentence in both languages. */\nexport const codes = {\n")
	for _, c := range codes {
		fmt.Fprintf(&b, "\t%s: {\n\t\tretry: %q,\n\t\ten: %s,\n\t\tko: %s,\n\t},\n", c.Code, c.Retry, quote(c.En), quote(c.Ko))
	}
	b.WriteString("} as const satisfies Record<string, { retry: Retry; en: string; ko: string }>;\n\nexport type ServerCode = keyof typeof codes;\n")
	return b.Bytes()
}

func replaceTable(doc []byte, codes []entry) []byte {
	var b bytes.Buffer
	b.WriteString("\n| code | HTTP | retry | |\n|---|---|---|---|\n")
	for _, c := range codes {
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s |\n", c.Code, c.Status, c.Retry, c.En)
	}
	start := bytes.Index(doc, []byte("<!-- codes:"))
	end := bytes.Index(doc, []byte("<!-- /codes -->"))
	if start < 0 || end < start {
		log.Fatal("docs/protocol.md: markers of the table of codes are missing")
	}
	start += bytes.IndexByte(doc[start:], '\n')
	return append(append(append([]byte(nil), doc[:start]...), b.Bytes()...), doc[end:]...)
}

func quote(s string) string {
	q, err := json.Marshal(s)
	check(err)
	return string(q)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
