package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/madang-rtc/madang/internal/doctor"
)

type doctorCmd struct {
	URL     string       `arg:"" help:"The node, such as https://call.example.com."`
	Address []netip.Addr `help:"Connect to these addresses instead of asking DNS: before the name leads to the node." placeholder:"IP"`
	Key     string       `help:"Browser key to join with. Default: that of the node's own pages." placeholder:"KEY"`
	Origin  string       `help:"Page that --key is used on. Default: the node's own." placeholder:"URL"`
	Token   string       `help:"Access token to join with, in place of a key." env:"MADANG_ACCESS_TOKEN" placeholder:"TOKEN"`
	Channel string       `help:"Channel to join. Default: one that nobody else knows." placeholder:"NAME"`
	Data    string       `help:"On the node's own machine: its data directory, to look at its file limit and disk too." placeholder:"DIR"`
	JSON    bool         `name:"json" help:"Print one JSON object per line."`
}

// errUnwell ends the command with a failure that its output has explained.
var errUnwell = errors.New("unwell")

// Run prints a line for each thing that was looked at.
func (c *doctorCmd) Run(ctx context.Context, s streams) error {
	language := string(s.language)
	counts := map[doctor.Status]int{}
	err := doctor.Run(ctx, doctor.Config{
		URL: c.URL, Addresses: c.Address, Key: c.Key, Origin: c.Origin, Token: c.Token, Channel: c.Channel, Data: c.Data,
	}, func(r doctor.Result) {
		counts[r.Status]++
		if c.JSON {
			e := json.NewEncoder(s.out)
			e.SetEscapeHTML(false)
			_ = e.Encode(r) // texts and plain values
			return
		}
		printResult(s.out, r, language)
	})
	var wrong *doctor.ConfigError
	if errors.As(err, &wrong) {
		return errors.New(wrong.Message.In(language))
	}
	if err != nil {
		return err
	}
	if !c.JSON {
		summary := s.language.pick("%d ok, %d to look at, %d wrong, %d not looked at\n", "정상 %d, 주의 %d, 문제 %d, 검사하지 않음 %d\n")
		fmt.Fprintf(s.out, "\n"+summary, counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail], counts[doctor.Skip])
	}
	if counts[doctor.Fail] > 0 {
		return errUnwell
	}
	return nil
}

func printResult(w io.Writer, r doctor.Result, language string) {
	fmt.Fprintf(w, "%-4s  %-16s  %s\n", r.Status, r.ID, r.Message.In(language))
	if hint := r.Hint.In(language); hint != "" {
		if r.Setting != "" {
			hint += " [" + r.Setting + "]"
		}
		fmt.Fprintf(w, "      %-16s  → %s\n", "", hint)
	}
}
