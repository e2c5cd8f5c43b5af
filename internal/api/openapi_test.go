package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

const documentFile = "../../docs/openapi.json"

//go:generate go test -run TestTheDocumentIsUpToDate -update .

func TestTheDocumentIsUpToDate(t *testing.T) {
	n := start(t, options{})
	res, body := n.send(t, http.MethodGet, "/v1/openapi.json", nil, nobody)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("got %s", res.Status)
	}
	var want bytes.Buffer
	if err := json.Indent(&want, body, "", "  "); err != nil {
		t.Fatal(err)
	}
	want.WriteByte('\n')
	if *update {
		if err := os.WriteFile(documentFile, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s differs from the code: run go generate ./internal/api and commit", documentFile)
	}
}
