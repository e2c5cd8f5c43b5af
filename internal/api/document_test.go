package api_test

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// document is docs/openapi.json, as far as a client needs it to know what to expect.
type document struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]schema }
}

type operation struct {
	OperationID string
	Responses   map[string]struct {
		Content map[string]struct{ Schema schema }
	}
}

type schema = map[string]any

var theDocument = sync.OnceValues(func() (*document, error) {
	b, err := os.ReadFile(documentFile)
	if err != nil {
		return nil, err
	}
	d := &document{}
	return d, json.Unmarshal(b, d)
})

// covered are the operations and statuses that the tests have seen.
var covered sync.Map

// checkAnswer holds an answer against the document: its status, its media type, and each member of its body.
func checkAnswer(t *testing.T, method, path string, res *http.Response, body []byte) {
	t.Helper()
	d, err := theDocument()
	if err != nil {
		t.Fatal(err)
	}
	op, ok := d.operation(method, path)
	if !ok {
		return // no operation: the test expects a refusal
	}
	status := strconv.Itoa(res.StatusCode)
	covered.Store(op.OperationID+" "+status, true)
	want, ok := op.Responses[status]
	if !ok {
		t.Errorf("%s answers %s, which the document does not name", op.OperationID, status)
		return
	}
	if len(want.Content) == 0 {
		if len(body) > 0 {
			t.Errorf("%s %s has a body, which the document does not name: %s", op.OperationID, status, body)
		}
		return
	}
	media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil {
		t.Errorf("%s %s: %v", op.OperationID, status, err)
	}
	content, ok := want.Content[media]
	if !ok {
		t.Errorf("%s %s is %s, which the document does not name", op.OperationID, status, media)
		return
	}
	if media == "application/octet-stream" {
		return // objects are nobody's to describe
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Errorf("%s %s: %v", op.OperationID, status, err)
		return
	}
	for _, e := range d.check("body", content.Schema, v) {
		t.Errorf("%s %s: %s\n%s", op.OperationID, status, e, body)
	}
}

// operation finds the operation of a request.
func (d *document) operation(method, path string) (operation, bool) {
	for template, ops := range d.Paths {
		pattern := regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `[^/]+`)
		if regexp.MustCompile("^" + pattern + "$").MatchString(path) {
			op, ok := ops[strings.ToLower(method)]
			return op, ok
		}
	}
	return operation{}, false
}

// check says where a value is not as its schema wants it (JSON Schema 2020-12, the keywords that the document uses).
func (d *document) check(at string, s schema, v any) (wrong []string) {
	fail := func(format string, args ...any) { wrong = append(wrong, at+" "+fmt.Sprintf(format, args...)) }
	if ref, ok := s["$ref"].(string); ok {
		target, ok := d.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
		if !ok {
			fail("has a schema that is not there: %s", ref)
			return wrong
		}
		return d.check(at, target, v)
	}
	for keyword, k := range s {
		switch keyword {
		case "type":
			if !isType(k, v) {
				fail("is %T, not %v", v, k)
				return wrong
			}
		case "properties":
			for name, p := range k.(map[string]any) {
				if member, ok := v.(map[string]any)[name]; ok {
					wrong = append(wrong, d.check(at+"."+name, p.(map[string]any), member)...)
				}
			}
		case "required":
			for _, name := range k.([]any) {
				if _, ok := v.(map[string]any)[name.(string)]; !ok {
					fail("lacks %s", name)
				}
			}
		case "additionalProperties":
			known, _ := s["properties"].(map[string]any)
			for name, member := range v.(map[string]any) {
				if _, ok := known[name]; ok {
					continue
				}
				if more, ok := k.(map[string]any); ok {
					wrong = append(wrong, d.check(at+"."+name, more, member)...)
				} else if k == false {
					fail("has %s, which the document does not name", name)
				}
			}
		case "items":
			for i, member := range v.([]any) {
				wrong = append(wrong, d.check(fmt.Sprintf("%s[%d]", at, i), k.(map[string]any), member)...)
			}
		case "enum":
			if !slices.Contains(k.([]any), v) {
				fail("is %v, not one of %v", v, k)
			}
		case "minimum":
			if v.(float64) < k.(float64) {
				fail("is %v, below %v", v, k)
			}
		case "maximum":
			if v.(float64) > k.(float64) {
				fail("is %v, above %v", v, k)
			}
		case "minLength":
			if utf8.RuneCountInString(v.(string)) < int(k.(float64)) {
				fail("is shorter than %v", k)
			}
		case "maxLength":
			if utf8.RuneCountInString(v.(string)) > int(k.(float64)) {
				fail("is longer than %v", k)
			}
		case "minItems":
			if len(v.([]any)) < int(k.(float64)) {
				fail("has fewer items than %v", k)
			}
		case "maxItems":
			if len(v.([]any)) > int(k.(float64)) {
				fail("has more items than %v", k)
			}
		case "pattern":
			if !regexp.MustCompile(k.(string)).MatchString(v.(string)) {
				fail("does not match %v", k)
			}
		case "description", "examples", "default", "format", "title":
		default:
			fail("has the keyword %s, which this test does not know", keyword)
		}
	}
	return wrong
}

func isType(want, v any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return isType(w, v) })
	}
	switch v := v.(type) {
	case nil:
		return want == "null"
	case string:
		return want == "string"
	case bool:
		return want == "boolean"
	case float64:
		return want == "number" || want == "integer" && v == float64(int64(v))
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false
}

func TestMain(m *testing.M) {
	code := m.Run()
	// When all tests ran, each operation has succeeded at least once in some test.
	if code == 0 && os.Getenv("MADANG_TEST_CLIENT") == "" && !slices.ContainsFunc(os.Args, func(a string) bool {
		return strings.HasPrefix(a, "-test.run") || strings.HasPrefix(a, "-test.fuzz") || strings.HasPrefix(a, "-test.bench") || strings.HasPrefix(a, "-test.list")
	}) {
		if d, err := theDocument(); err == nil {
			for _, ops := range d.Paths {
				for _, op := range ops {
					succeeded := false
					for status := range op.Responses {
						if _, ok := covered.Load(op.OperationID + " " + status); ok && status < "300" {
							succeeded = true
						}
					}
					if !succeeded {
						fmt.Println("FAIL: no test has seen the operation succeed:", op.OperationID)
						code = 1
					}
				}
			}
		}
	}
	os.Exit(code)
}
