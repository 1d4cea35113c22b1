package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"carrel/internal/app"
	"carrel/internal/config"
)

func newServe(g *global) *cobra.Command {
	var file string
	var flags config.Config
	var control bool
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run Carrel: both doors, the control plane, and its drivers",
		Long: `Runs all of Carrel in one process. The first start initialises the state directory: a certificate authority and certificates for the
names it serves, the account id, the root access key, the default VPC and bundles; with --simulate also a registered directory with the
users ada and grace. It prints "carrel: ready" on standard output once both doors accept. SIGTERM and Ctrl-C stop it in an orderly way.

Real desktops: one process drives QEMU, Samba and the networks, and listens to nobody but the other, which has the doors and the state. Started
by root, the first keeps root and the other runs as an ordinary user (host.user in the configuration file). Started by anybody else, the first
is root in a user namespace, with the ids that /etc/subuid and /etc/subgid give the user; that needs the package uidmap.

Flags win over the configuration file.`,
		Example: `  carrel serve --simulate
  carrel serve --simulate --state ./state --api-addr 127.0.0.1:8443 --portal-addr 127.0.0.1:8444
  carrel serve --config /etc/carrel/carrel.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := merged(c, file, g.state, flags)
			if err != nil {
				return err
			}
			p := app.Process{Version: version, Stdout: c.OutOrStdout(), Stderr: c.ErrOrStderr()}
			if conf.Simulate || control {
				return app.Serve(c.Context(), conf, p)
			}
			return supervise(c.Context(), conf, file, p)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration file (check it with: carrel config check FILE)")
	f.BoolVar(&flags.Simulate, "simulate", false, "simulated drivers: no root, QEMU or Samba needed, and no real desktop")
	f.StringVar(&flags.API.Address, "api-addr", "", "HOST:PORT of the API door (default 127.0.0.1:8443; port 0: any free one)")
	f.StringVar(&flags.Portal.Address, "portal-addr", "", "HOST:PORT of the people's door (default 127.0.0.1:8444; port 0: any free one)")
	f.StringVar(&flags.Region, "region", "", "Region name clients use (default us-east-1; fixed by the first start)")
	f.StringVar(&flags.AccountID, "account-id", "", "account id of 12 digits (default: random; fixed by the first start)")
	f.BoolVar(&control, "control", false, "the control plane only, beside a host role")
	_ = f.MarkHidden("control")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	return c
}

// supervise runs the roles as processes of their own.
func supervise(ctx context.Context, conf *config.Config, file string, p app.Process) error {
	dir, err := filepath.Abs(conf.State.Dir)
	if err != nil {
		return err
	}
	conf.State.Dir = dir
	// The state directory is said, because its default is another for another user. The configuration is handed over: the file may be root's alone.
	common := []string{"--state", dir}
	var text []byte
	if file != "" {
		if text, err = os.ReadFile(file); err != nil {
			return fmt.Errorf("read the configuration: %w", err)
		}
		common = append(common, "--config", handedOver)
	}
	control := append([]string{"serve", "--control", "--api-addr", conf.API.Address, "--portal-addr", conf.Portal.Address}, common...)
	if conf.Region != "" {
		control = append(control, "--region", conf.Region)
	}
	if conf.AccountID != "" {
		control = append(control, "--account-id", conf.AccountID)
	}
	return app.Supervise(ctx, conf, app.Arguments{
		Host: func(uid uint32, deny []netip.Prefix) []string {
			a := append([]string{"host", "--user", fmt.Sprint(uid)}, common...)
			for _, p := range deny {
				a = append(a, "--deny", p.String())
			}
			return a
		},
		Control: control, Input: text,
	}, p)
}

// handedOver is the name of a configuration that comes on standard input.
const handedOver = "-"

// maxConfiguration bounds it, in bytes.
const maxConfiguration = 1 << 20

func load(file string) (*config.Config, error) {
	if file != handedOver {
		return config.Load(file)
	}
	text, err := io.ReadAll(io.LimitReader(os.Stdin, maxConfiguration))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return config.Parse(text)
}

// newHost is the host role, started by serve.
func newHost(g *global) *cobra.Command {
	var file string
	var deny []string
	var o app.HostOptions
	c := &cobra.Command{
		Use: "host", Short: "Run the host role (started by serve)", Hidden: true, Args: cobra.NoArgs,
		Example: "  carrel host --state /var/lib/carrel --user 1000",
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := merged(c, file, g.state, config.Config{})
			if err != nil {
				return err
			}
			for _, text := range deny {
				p, err := netip.ParsePrefix(text)
				if err != nil {
					return err
				}
				o.Deny = append(o.Deny, p)
			}
			return app.Host(c.Context(), conf, o, app.Process{Version: version, Stdout: c.OutOrStdout(), Stderr: c.ErrOrStderr()})
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file")
	c.Flags().Uint32Var(&o.User, "user", 0, "user id of the control plane")
	c.Flags().StringSliceVar(&deny, "deny", nil, "networks that desktops must not reach")
	return c
}

// newHold keeps the namespaces of a host role without root, started by serve.
func newHold() *cobra.Command {
	return &cobra.Command{
		Use: app.HoldArgument, Short: "Keep the namespaces of desktops without root (started by serve)", Hidden: true, Args: cobra.NoArgs,
		Example: "  carrel hold",
		RunE:    func(*cobra.Command, []string) error { return app.Hold() },
	}
}

// merged is the configuration file with the flags that were given over it, checked.
func merged(c *cobra.Command, file, state string, flags config.Config) (*config.Config, error) {
	conf := &config.Config{}
	if file != "" {
		var err error
		if conf, err = load(file); err != nil {
			return nil, err
		}
	}
	given := c.Flags().Changed
	if given("state") || conf.State.Dir == "" {
		conf.State.Dir = state
	}
	if given("simulate") {
		conf.Simulate = flags.Simulate
	}
	for _, o := range []struct {
		flag     string
		to, from *string
	}{
		{"api-addr", &conf.API.Address, &flags.API.Address},
		{"portal-addr", &conf.Portal.Address, &flags.Portal.Address},
		{"region", &conf.Region, &flags.Region},
		{"account-id", &conf.AccountID, &flags.AccountID},
	} {
		if given(o.flag) {
			*o.to = *o.from
		}
	}
	if err := conf.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	conf.Complete()
	return conf, nil
}
