package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"carrel/internal/app"
	"carrel/internal/config"
)

func newServe(g *global) *cobra.Command {
	var file string
	var flags config.Config
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run Carrel: both doors, the control plane, and its drivers",
		Long: `Runs all of Carrel in one process. The first start initialises the state directory: a certificate authority and certificates for the
names it serves, the account id, the root access key, the default VPC and bundles; with --simulate also a registered directory with the
users ada and grace. It prints "carrel: ready" on standard output once both doors accept. SIGTERM and Ctrl-C stop it in an orderly way.

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
			return app.Serve(c.Context(), conf, app.Process{Version: version, Stdout: c.OutOrStdout(), Stderr: c.ErrOrStderr()})
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration file (check it with: carrel config check FILE)")
	f.BoolVar(&flags.Simulate, "simulate", false, "simulated drivers: no root, QEMU or Samba needed, and no real desktop")
	f.StringVar(&flags.API.Address, "api-addr", "", "HOST:PORT of the API door (default 127.0.0.1:8443; port 0: any free one)")
	f.StringVar(&flags.Portal.Address, "portal-addr", "", "HOST:PORT of the people's door (default 127.0.0.1:8444; port 0: any free one)")
	f.StringVar(&flags.Region, "region", "", "Region name clients use (default us-east-1; fixed by the first start)")
	f.StringVar(&flags.AccountID, "account-id", "", "account id of 12 digits (default: random; fixed by the first start)")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	return c
}

// merged is the configuration file with the flags that were given over it, checked.
func merged(c *cobra.Command, file, state string, flags config.Config) (*config.Config, error) {
	conf := &config.Config{}
	if file != "" {
		var err error
		if conf, err = config.Load(file); err != nil {
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
