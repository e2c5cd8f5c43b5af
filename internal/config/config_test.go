package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

type program struct {
	Serve struct {
		Config `embed:""`
		File   kong.ConfigFlag `name:"config"`
	} `cmd:""`
}

// run decodes as the program does.
func run(t *testing.T, file string, env map[string]string, args ...string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "madang.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	for k, v := range env {
		t.Setenv(k, v)
	}
	var p program
	parser, err := kong.New(&p, kong.Configuration(Load))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(append([]string{"serve", "--config", path}, args...))
	return p.Serve.Config, err
}

func TestFlagOutranksEnvironmentOutranksFile(t *testing.T) {
	file := "listen: \":1001\"\nudp: \":2001\"\nexternal-ip: [192.0.2.1, \"2001:db8::1\"]\nrelay-ports: 5000-6000\nlog-level: warn\n"
	got, err := run(t, file, map[string]string{"MADANG_UDP": ":2002", "MADANG_LOG_LEVEL": "error"}, "--log-level", "debug")
	if err != nil {
		t.Fatal(err)
	}
	if got.Listen != ":1001" || got.UDP != ":2002" || got.LogLevel != "debug" {
		t.Errorf("got listen %q udp %q log-level %q, want :1001 from the file, :2002 from the environment, debug from the flag",
			got.Listen, got.UDP, got.LogLevel)
	}
	if len(got.ExternalIP) != 2 || got.RelayPorts != (PortRange{5000, 6000}) {
		t.Errorf("got external-ip %v, relay-ports %v", got.ExternalIP, got.RelayPorts)
	}
	if got.Data != "./madang-data" || got.ResumeWindow.Seconds() != 60 {
		t.Errorf("got data %q, resume-window %v, want the defaults", got.Data, got.ResumeWindow)
	}
}

func TestDevelopmentEndsWithAPublicName(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   bool
	}{
		{Config{}, true},
		{Config{PublicURL: "http://192.168.0.7:8080"}, true},
		{Config{TLSCert: "a.pem", TLSKey: "a.key"}, true},
		{Config{PublicURL: "https://call.example.com"}, false},
		{Config{PublicURL: "HTTPS://call.example.com"}, false},
		{Config{Domain: "call.example.com"}, false},
	} {
		if got := c.config.Development(); got != c.want {
			t.Errorf("domain %q, public URL %q: got %v", c.config.Domain, c.config.PublicURL, got)
		}
	}
}

func TestWrongConfigurationNamesItsPlace(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		args []string
		want string
	}{
		"unknown key":          {"listen: \":80\"\nlisten-port: 80\n", nil, `madang.yaml:2: unknown key "listen-port"`},
		"key twice":            {"udp: \":1\"\nudp: \":2\"\n", nil, `madang.yaml:2: key "udp" stands twice`},
		"not a mapping":        {"- a\n", nil, "madang.yaml:1: want keys and values"},
		"broken YAML":          {"listen: [\n", nil, "madang.yaml: "},
		"nested":               {"listen: {port: 80}\n", nil, "madang.yaml:1: listen: want a value or a list"},
		"wrong time":           {"resume-window: soon\n", nil, "resume-window"},
		"too long":             {"resume-window: 3h\n", nil, "resume-window: 3h0m0s is not between"},
		"no port":              {"", []string{"--listen", "localhost"}, `listen: "localhost" is not host:port`},
		"domain with scheme":   {"domain: https://call.example.com\n", nil, `domain: "https://call.example.com" is not a host name`},
		"certificate alone":    {"tls-cert: a.pem\n", nil, "tls-cert: goes together with tls-key"},
		"public URL":           {"", []string{"--public-url", "call.example.com"}, "public-url:"},
		"ports upside down":    {"relay-ports: 6000-5000\n", nil, "is not a range of ports"},
		"frame, not an origin": {"frame-ancestors: [https://www.example.com/page]\n", nil, "frame-ancestors: "},
		"frame, a directive":   {"frame-ancestors: [\"https://a.example; script-src *\"]\n", nil, "frame-ancestors: "},
		"two of one family":    {"external-ip: [192.0.2.1, 192.0.2.2]\n", nil, "external-ip: takes one IPv4"},
		"unknown flag":         {"", []string{"--lisen", ":80"}, "unknown flag --lisen"},
		"file does not exist":  {"", []string{"--config", "/nonexistent/madang.yaml"}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, c.file, nil, c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("listen: \":80\"\n"))
	f.Add([]byte("a: [1, {b: c}]\n"))
	f.Add([]byte("&a a: *a\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := parse("madang.yaml", raw)
		if (file == nil) == (err == nil) {
			t.Errorf("got %v, %v: want one of them", file, err)
		}
	})
}
