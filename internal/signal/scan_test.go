package signal

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func nested(depth int) string {
	return strings.Repeat(`[`, depth) + strings.Repeat(`]`, depth)
}

func TestObjectsAreReadStrictly(t *testing.T) {
	many := &strings.Builder{}
	for i := range maxMembers + 1 {
		many.WriteString(`,"m` + strings.Repeat("x", i) + `":0`)
	}
	for text, want := range map[string]error{
		"":                                      errSyntax,
		" ":                                     errSyntax,
		"{":                                     errSyntax,
		"}":                                     errSyntax,
		"{}{}":                                  errSyntax,
		"{} x":                                  errSyntax,
		"\ufeff{}":                              errSyntax, // RFC 8259 §8.1: no byte order mark
		`{"a":1,}`:                              errSyntax,
		`{,}`:                                   errSyntax,
		`{"a"}`:                                 errSyntax,
		`{a:1}`:                                 errSyntax,
		`{'a':1}`:                               errSyntax,
		`{"a":01}`:                              errSyntax,
		`{"a":.5}`:                              errSyntax,
		`{"a":1.}`:                              errSyntax,
		`{"a":+1}`:                              errSyntax,
		`{"a":1e}`:                              errSyntax,
		`{"a":NaN}`:                             errSyntax,
		`{"a":nul}`:                             errSyntax,
		`{"a":"` + "\t" + `"}`:                  errSyntax,
		`{"a":"\x"}`:                            errSyntax,
		`{"a":"\u12g4"}`:                        errSyntax,
		`{"a":"`:                                errSyntax,
		`{"a":[1,]}`:                            errSyntax,
		`{"a":1 "b":2}`:                         errSyntax,
		"{\"a\":\x00}":                          errSyntax,
		"{\"a\":\"\xff\"}":                      errUTF8,
		"{\"a\":\"\xed\xa0\x80\"}":              errUTF8, // a surrogate, as CESU-8 has it
		"[]":                                    errNotObject,
		` "a" `:                                 errNotObject,
		"12":                                    errNotObject,
		"null":                                  errNotObject,
		"[] x":                                  errSyntax,
		`{"a":1,"a":2}`:                         errDuplicate,
		`{"a":1,"\u0061":2}`:                    errDuplicate,
		`{"\ud800":1,"\ud801":2}`:               errDuplicate, // both read as U+FFFD
		`{"a":` + nested(maxDepth) + `}`:        errDepth,
		`{"a":` + strings.Repeat("[", 1<<16):    errDepth,
		`{` + many.String()[1:] + `}`:           errMembers,
		`{}`:                                    nil,
		" \t\r\n{ \"a\" : [ ] } ":               nil,
		`{"a":-0.0E+00,"b":"\ud83d\ude00"}`:     nil,
		`{"a":` + nested(maxDepth-1) + `}`:      nil,
		`{"a":{"b":1,"b":2}}`:                   nil, // inside a value the bytes are the application's
		`{"a":123456789012345678901234567890}`:  nil,
		`{"":1}`:                                nil,
		`{"a":"` + "\u2028\x7f" + `","b":"\/"}`: nil,
	} {
		var o object
		if err := o.parse([]byte(text), maxDepth); err != want {
			t.Errorf("%.60q: got %v, want %v", text, err, want)
		}
	}
}

// FuzzObject compares the scanner with encoding/json: what one takes for JSON the other does too, but for the reasons that the scanner names.
func FuzzObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"b":[true,false,null,{"c":"d"}]}`, ` {"a" : -1.5e+7 } `, `{"\u0061":"\ud83d\ude00"}`, `[1]`, `"x"`, `{"a":1,"a":2}`,
		"{\"a\":\"\xff\"}", `{"a":` + nested(40) + `}`, `{"a":0e0,"b":1E-9}`, "\ufeff{}", `{"a":tru}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var o object
		err := o.parse(data, maxDepth)
		valid := json.Valid(data)
		var members map[string]json.RawMessage
		isObject := json.Unmarshal(data, &members) == nil && members != nil
		switch {
		case err == nil:
			if !isObject {
				t.Fatalf("%q is taken for an object", data)
			}
			if len(members) != o.n {
				t.Errorf("%q: got %d members, want %d", data, o.n, len(members))
			}
			for _, m := range o.members[:o.n] {
				if want, ok := members[string(m.name)]; !ok || !bytes.Equal(want, m.value) {
					t.Errorf("%q: member %q is %q, want %q", data, m.name, m.value, want)
				}
			}
		case errors.Is(err, errSyntax) && valid, errors.Is(err, errNotObject) && (isObject || !valid), errors.Is(err, errUTF8) == utf8.Valid(data):
			t.Errorf("%q: %v (JSON %v, object %v)", data, err, valid, isObject)
		}
	})
}
