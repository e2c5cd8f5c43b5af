package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run this test's binary as madang.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"madang": main})
}

// TestScripts runs the command line as its users do. Each script has a directory and processes of its own.
//
//	serve NAME DIR   starts a node on free ports, waits until it is ready, and sets $NAME to its URL; it is stopped at the end
//	stop NAME        stops it
//	kill NAME        ends it at once
//	save NAME        sets $NAME to the last command's standard output, without its end of line
//	field NAME PATH  sets $NAME to a member of the JSON on standard output, such as items.0.id
//	get URL STATUS   asks for a URL
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Values["nodes"] = map[string]*exec.Cmd{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serveScript, "stop": func(s *testscript.TestScript, _ bool, args []string) { endScript(s, args, os.Interrupt) },
			"kill": func(s *testscript.TestScript, _ bool, args []string) { endScript(s, args, os.Kill) },
			"save": func(s *testscript.TestScript, _ bool, args []string) {
				s.Setenv(args[0], strings.TrimRight(s.ReadFile("stdout"), "\n"))
			},
			"field": fieldScript, "get": getScript,
		},
	})
}

func serveScript(s *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command("madang", append([]string{"serve", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--log-format", "json", "--data", s.MkAbs(args[1])}, args[2:]...)...)
	cmd.Dir = s.MkAbs(".")
	out, err := cmd.StdoutPipe()
	s.Check(err)
	var log strings.Builder
	cmd.Stderr = &log
	s.Check(cmd.Start())
	s.Value("nodes").(map[string]*exec.Cmd)[args[0]] = cmd
	s.Defer(func() { cmd.Process.Kill(); cmd.Wait() })
	var ready struct{ Msg, HTTP string }
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if json.Unmarshal(lines.Bytes(), &ready) == nil && ready.Msg == "ready" {
			s.Setenv(args[0], ready.HTTP)
			return
		}
	}
	cmd.Wait()
	s.Fatalf("the node did not get ready:\n%s", log.String())
}

func endScript(s *testscript.TestScript, args []string, how os.Signal) {
	cmd := s.Value("nodes").(map[string]*exec.Cmd)[args[0]]
	s.Check(cmd.Process.Signal(how))
	err := cmd.Wait()
	if how != os.Kill {
		s.Check(err)
	}
}

func fieldScript(s *testscript.TestScript, _ bool, args []string) {
	var v any
	s.Check(json.Unmarshal([]byte(s.ReadFile("stdout")), &v))
	for name := range strings.SplitSeq(args[1], ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[name]
		case []any:
			if len(at) == 0 {
				s.Fatalf("empty list")
			}
			v = at[0]
		}
	}
	text, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		s.Check(err)
		text = string(b)
	}
	s.Setenv(args[0], text)
}

func getScript(s *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	s.Check(err)
	res, err := http.DefaultClient.Do(r)
	s.Check(err)
	res.Body.Close()
	if !strings.HasPrefix(res.Status, args[1]) {
		s.Fatalf("got %s, want %s", res.Status, args[1])
	}
}
