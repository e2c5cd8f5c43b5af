package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/madang-rtc/madang/internal/refusal"
)

// A language is one of the two in which the program speaks to people: "ko", or English for every other. What programs read (JSON, logs, codes, the names of tables'
// columns) is in English alone.
type language string

// spoken is the language that the flag --lang says, or else the environment, in the order of setlocale(3).
func spoken(flag string) language {
	if flag == "" && strings.HasPrefix(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG")), "ko") {
		return "ko"
	}
	return language(flag)
}

// pick returns the text in the language.
func (l language) pick(en, ko string) string {
	if l == "ko" {
		return ko
	}
	return en
}

// A bilingual is an error in both languages, with what to do next, if that is known.
type bilingual struct {
	en, ko         string
	hintEn, hintKo string
	cause          error // follows the text
}

func (b bilingual) Error() string { return b.In("") }
func (b bilingual) Unwrap() error { return b.cause }

// In returns the text in a language; of the errors that reach report it is asked rather than Error.
func (b bilingual) In(l string) string {
	text := language(l).pick(b.en, b.ko)
	if b.cause != nil {
		text += ": " + b.cause.Error()
	}
	return text
}

// HintIn returns what to do next, or nothing.
func (b bilingual) HintIn(l string) string { return language(l).pick(b.hintEn, b.hintKo) }

// An advised error has a hint in both languages.
type advised struct {
	error
	en, ko string
}

func (a advised) Unwrap() error          { return a.error }
func (a advised) HintIn(l string) string { return language(l).pick(a.en, a.ko) }

// inLanguage returns an error's text.
func inLanguage(err error, l language) string {
	var both interface{ In(string) string }
	if errors.As(err, &both) {
		return both.In(string(l))
	}
	var r *refusal.Refusal
	if l == "ko" && errors.As(err, &r) {
		return sentence(r.Code, r.Message)
	}
	return err.Error()
}

// sentence is a refusal in Korean: the table's sentence, and what the refusal itself says beyond it, which is in English.
func sentence(code refusal.Code, message string) string {
	entry, known := refusal.Look(code)
	switch {
	case !known: // a node that is newer than this program
		return fmt.Sprintf("%s (%s)", message, code)
	case message == "" || message == entry.En:
		return fmt.Sprintf("%s (%s)", strings.TrimSuffix(entry.Ko, "."), code)
	default:
		return fmt.Sprintf("%s (%s: %s)", strings.TrimSuffix(entry.Ko, "."), code, strings.TrimSuffix(message, "."))
	}
}

// hintIn returns what to do after an error, or nothing.
func hintIn(err error, l language) string {
	var both interface{ HintIn(string) string }
	if errors.As(err, &both) {
		return both.HintIn(string(l))
	}
	var one interface{ Hint() string }
	if errors.As(err, &one) {
		return one.Hint()
	}
	return ""
}
