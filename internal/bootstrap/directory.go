package bootstrap

import (
	"strings"

	"carrel/internal/ident"
	"carrel/internal/region"
	"carrel/internal/state"
)

// The simulated directory. Its id is the same in every simulation, so that scripts can name it; its users ada and grace live in
// the simulated driver.
const (
	SimulatedDirectory     = ident.DirectoryID("d-90670ca44e")
	SimulatedDirectoryName = "corp.example.com"
)

// directory collects the simulated directory in tx: Active, and registered with WorkSpaces.
func (o Options) directory(tx *state.Tx, n network, regionName string) error {
	now := tx.Now()
	id := string(SimulatedDirectory)
	controllers := o.group(tx, n.vpc, id+"_controllers", "AWS created security group for "+id+" directory controllers")
	members := o.group(tx, n.vpc, id+"_workspacesMembers", "Amazon WorkSpaces Security Group")
	var addresses []string
	for i, plan := range subnetPlan {
		addresses = append(addresses, plan.dns)
		// The address is taken as reconcile/network takes it, so that no desktop gets it.
		nic := &state.Interface{Meta: state.Meta{Created: now}, ID: ident.NewInterfaceID(o.Rand), SubnetID: n.subnets[i],
			Address: plan.dns, DirectoryID: SimulatedDirectory}
		state.Put(tx, state.Interfaces, nic)
	}
	code := region.RegistrationCode(o.Rand, regionName)
	// As reconcile/directory claims it: a code leads to one directory.
	if err := tx.Claim("registration-code/"+strings.ToUpper(code), id); err != nil {
		return err
	}
	allow, deny, on, off := "ALLOW", "DENY", "ENABLED", "DISABLED"
	state.Put(tx, state.Directories, &state.Directory{
		Meta: state.Meta{Created: now}, ID: SimulatedDirectory,
		Spec: state.DirectorySpec{Type: "SimpleAD", Name: SimulatedDirectoryName, ShortName: "CORP", Size: "Small", VPCID: n.vpc, SubnetIDs: n.subnets},
		Status: state.DirectoryStatus{Stage: "Active", StageSince: now, DNSAddresses: addresses, Zones: n.zones,
			SecurityGroupID: controllers},
		Registration: &state.Registration{
			State: "REGISTERED", Since: now, Code: code, SubnetIDs: n.subnets, Tenancy: "SHARED", MembersGroupID: members,
			SelfService: map[string]string{"RestartWorkspace": on, "IncreaseVolumeSize": off, "ChangeComputeType": off, "SwitchRunningMode": off, "RebuildWorkspace": off},
			// Unlike in a directory that a customer registers, the web client may connect: it is the one that Carrel has.
			Access: map[string]string{"DeviceTypeWindows": allow, "DeviceTypeOsx": allow, "DeviceTypeAndroid": allow, "DeviceTypeIos": allow,
				"DeviceTypeChromeOs": allow, "DeviceTypeZeroClient": allow, "DeviceTypeLinux": deny, "DeviceTypeWeb": allow},
		},
	})
	return nil
}
