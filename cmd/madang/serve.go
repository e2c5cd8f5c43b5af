package main

import (
	"context"
	"log/slog"

	"github.com/alecthomas/kong"

	"github.com/madang-rtc/madang/internal/config"
	"github.com/madang-rtc/madang/internal/server"
)

type serveCmd struct {
	config.Config `embed:""`
	File          kong.ConfigFlag `name:"config" help:"YAML file with the same keys as these flags." env:"MADANG_CONFIG" placeholder:"FILE"`
}

// Run serves until ctx ends. Logs go to standard error; standard output gets one thing, the news that all is up.
func (c *serveCmd) Run(ctx context.Context, s streams) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(s.err, options)
	if c.LogFormat == "json" {
		handler = slog.NewJSONHandler(s.err, options)
	}
	node, err := server.New(server.Config{Config: c.Config, Log: slog.New(handler)})
	if err != nil {
		return err
	}
	return node.Run(ctx, func(ready server.Ready) {
		if c.LogFormat == "json" {
			announceJSON(s.out, ready)
		} else {
			announceText(s.out, ready, s.language)
		}
	})
}
