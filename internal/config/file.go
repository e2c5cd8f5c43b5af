package config

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// A File is a decoded YAML file. As a kong.Resolver it gives values to flags that neither the command line nor the
// environment sets; a key that no flag has is an error with its place.
type File struct {
	path   string
	values map[string]any
	lines  map[string]int
}

var _ kong.Resolver = (*File)(nil)

// Load reads a YAML file; it is kong's ConfigurationLoader. Errors name the file if r has a name.
func Load(r io.Reader) (kong.Resolver, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	name := "configuration"
	if named, ok := r.(interface{ Name() string }); ok {
		name = named.Name()
	}
	return parse(name, raw)
}

func parse(path string, raw []byte) (*File, error) {
	f := &File{path: path, values: map[string]any{}, lines: map[string]int{}}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(doc.Content) == 0 {
		return f, nil // an empty file
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: want keys and values, such as `listen: \":8080\"`", path, root.Line)
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if _, twice := f.values[key.Value]; twice {
			return nil, fmt.Errorf("%s:%d: key %q stands twice", path, key.Line, key.Value)
		}
		f.lines[key.Value] = key.Line
		switch value.Kind {
		case yaml.ScalarNode:
			f.values[key.Value] = value.Value
		case yaml.SequenceNode:
			var items []string
			for _, item := range value.Content {
				if item.Kind != yaml.ScalarNode {
					return nil, fmt.Errorf("%s:%d: %s: want a list of plain values", path, item.Line, key.Value)
				}
				items = append(items, item.Value)
			}
			f.values[key.Value] = strings.Join(items, ",")
		default:
			return nil, fmt.Errorf("%s:%d: %s: want a value or a list", path, value.Line, key.Value)
		}
	}
	return f, nil
}

// Validate refuses keys that no flag of the selected command has.
func (f *File) Validate(app *kong.Application) error {
	var known []string
	for _, command := range app.Children {
		if command.Name != "serve" {
			continue
		}
		for _, flag := range command.Flags {
			if flag.Name != "config" && flag.Name != "help" {
				known = append(known, flag.Name)
			}
		}
	}
	slices.Sort(known)
	for key, line := range f.lines {
		if !slices.Contains(known, key) {
			return fmt.Errorf("%s:%d: unknown key %q; the keys are %s", f.path, line, key, strings.Join(known, ", "))
		}
	}
	return nil
}

// Resolve gives kong the file's value for a flag of serve.
func (f *File) Resolve(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if parent.Command == nil || parent.Command.Name != "serve" {
		return nil, nil
	}
	for _, env := range flag.Envs {
		if _, set := os.LookupEnv(env); set {
			return nil, nil // kong asks resolvers last, but the environment outranks the file
		}
	}
	if value, ok := f.values[flag.Name]; ok {
		return value, nil
	}
	return nil, nil
}
