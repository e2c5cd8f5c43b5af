package api_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheGuideNamesEveryOperation holds docs/api.md to docs/openapi.json, which TestTheDocumentIsUpToDate holds to the code.
func TestTheGuideNamesEveryOperation(t *testing.T) {
	raw, err := os.ReadFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]struct {
			Security []map[string]any
		}
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for path, methods := range document.Paths {
		for method, operation := range methods {
			who := "admin"
			switch {
			case len(operation.Security) > 1:
				who = "server"
			case len(operation.Security) == 0:
				who = "peer"
			case operation.Security[0]["depotToken"] != nil:
				who = "end"
			}
			want[strings.ToUpper(method)+" "+path] = who
		}
	}
	guide, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /v1/[^`]*)` \\| (\\w+) \\|").FindAllStringSubmatch(string(guide), -1) {
		got[m[1]] = m[2]
	}
	for operation, who := range want {
		if got[operation] != who {
			t.Errorf("docs/api.md says %q about who may use %s, want %q", got[operation], operation, who)
		}
	}
	for operation := range got {
		if _, ok := want[operation]; !ok {
			t.Errorf("docs/api.md names %s, which does not exist", operation)
		}
	}
	// In the text too: no operation that is not in the table.
	for _, m := range regexp.MustCompile("`((?:GET|POST|PATCH|DELETE|PUT) /v1/[^`]*)`").FindAllStringSubmatch(string(guide), -1) {
		if _, ok := want[m[1]]; !ok {
			t.Errorf("docs/api.md names %s, which does not exist", m[1])
		}
	}
	settings := document.Components.Schemas["Settings"].Properties
	if len(settings) == 0 {
		t.Error("the document has no schema Settings")
	}
	for name := range settings {
		if !strings.Contains(string(guide), "| `"+name+"` |") {
			t.Errorf("docs/api.md does not say what the setting %s is", name)
		}
	}
}
