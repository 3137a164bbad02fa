package main

import (
	"github.com/spf13/cobra"

	"bundlefs/internal/deploy"
)

func newInstallCommand(a *app) *cobra.Command {
	var o runOptions
	var m manyOptions
	cmd := &cobra.Command{
		Use:   "install [NODE…]",
		Short: "run [jobs:install] in the open bundle",
		Long:  "Install runs the steps of [jobs:install] in their order.\n\n" + haltText,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := a.nodesOrOpen(args)
			if err != nil {
				return err
			}
			return runJobs(cmd.Context(), a, &o, m, sel, deploy.Install)
		},
	}
	o.flags(cmd)
	o.haltFlags(cmd)
	m.flags(cmd)
	return cmd
}
