//go:build linux

package test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/madang-rtc/madang/internal/lab"
)

// output runs one of the web packages' programs, or node, and returns what it prints.
func output(t *testing.T, dir, stdin, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(within(t, patience), program, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestOpenAPIDocumentAndGeneratedClient: the document that a running node serves is valid OpenAPI 3.1, and a client that a stranger's generator makes of it
// compiles and works against the node.
func TestOpenAPIDocumentAndGeneratedClient(t *testing.T) {
	t.Parallel()
	bin, err := filepath.Abs("../node_modules/.bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "openapi-ts")); err != nil {
		lab.Missing(t, "the web packages are not installed: %v", err)
	}
	node := serve(t, lab.NodeConfig{})
	_, document := request(t, http.DefaultClient, "GET", node.HTTP+"/v1/openapi.json", nil, nil)
	if got := output(t, ".", js(document), "node", "restclient/validate.mjs"); !strings.Contains(got, "3.1 valid") {
		t.Errorf("got %s", got)
	}
	broken := message{}
	if err := json.Unmarshal([]byte(js(document)), &broken); err != nil {
		t.Fatal(err)
	}
	broken["paths"] = message{"/v1/x": message{"get": message{"responses": 7}}}
	if got := output(t, ".", js(broken), "node", "restclient/validate.mjs"); strings.Contains(got, "3.1 valid") {
		t.Error("the validator takes anything")
	}

	dir := t.TempDir()
	for name, content := range map[string]string{"openapi.json": js(document), "package.json": `{"type":"module"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"main.ts", "tsconfig.json", "openapi-ts.config.mjs"} {
		content, err := os.ReadFile(filepath.Join("restclient", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	output(t, dir, "", filepath.Join(bin, "openapi-ts"))
	output(t, dir, "", filepath.Join(bin, "tsc"), "-p", ".")
	admin, _ := administer(t, node, "POST", "/v1/admin-token", message{})["token"].(string)
	if got := output(t, dir, "", "node", "built/main.js", node.HTTP, admin); got != "" {
		t.Errorf("the generated client says:\n%s", got)
	}
}
