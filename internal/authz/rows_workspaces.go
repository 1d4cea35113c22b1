package authz

import (
	"carrel/internal/state"
)

// The resource types of workspaces. All but the certificate, which no operation names, carry tags.
var (
	workspace   = &kind{service: "workspaces", prefix: "workspace/", tags: tagsOf(state.Workspaces)}
	directory   = &kind{service: "workspaces", prefix: "directory/", tags: registrationTags}
	bundle      = &kind{service: "workspaces", prefix: "workspacebundle/", tags: tagsOf(state.Bundles)}
	image       = &kind{service: "workspaces", prefix: "workspaceimage/", tags: tagsOf(state.Images)}
	ipGroup     = &kind{service: "workspaces", prefix: "workspaceipgroup/", tags: tagsOf(state.IPGroups)}
	pool        = &kind{service: "workspaces", prefix: "workspacespool/"}
	alias       = &kind{service: "workspaces", prefix: "connectionalias/"}
	application = &kind{service: "workspaces", prefix: "workspaceapplication/"}
)

// registrationTags are a directory's tags with workspaces; with Directory Service it has others.
func registrationTags(e *env, id string) map[string]string {
	if d, ok := state.Get(e.snapshot, state.Directories, id); ok && d.Registration != nil {
		return d.Registration.Tags
	}
	return nil
}

// workspacesRows are the rows of reference 5.6. Where it knows no resource, any of the obvious type is asked for: a denied
// DescribeWorkspaceDirectories of AWS names directory/*.
var workspacesRows = table{
	"AcceptAccountLinkInvitation":          {},
	"AssociateConnectionAlias":             {on: []on{alias.at("AliasId"), directory.at("ResourceId")}},
	"AssociateIpGroups":                    {on: []on{directory.at("DirectoryId"), ipGroup.at("GroupIds")}},
	"AssociateWorkspaceApplication":        {on: []on{application.at("ApplicationId"), workspace.at("WorkspaceId")}},
	"AuthorizeIpRules":                     {on: []on{ipGroup.at("GroupId")}},
	"CopyWorkspaceImage":                   {on: []on{image.at("SourceImageId")}, tags: "Tags"},
	"CreateAccountLinkInvitation":          {},
	"CreateConnectClientAddIn":             {on: []on{directory.at("ResourceId")}},
	"CreateConnectionAlias":                {on: []on{alias.any()}, tags: "Tags"},
	"CreateIpGroup":                        {on: []on{ipGroup.any()}, tags: "Tags"},
	"CreateStandbyWorkspaces":              {items: "StandbyWorkspaces", on: []on{directory.at("DirectoryId"), workspace.at("PrimaryWorkspaceId")}, tags: "Tags"},
	"CreateTags":                           {tags: "Tags"},
	"CreateUpdatedWorkspaceImage":          {on: []on{image.at("SourceImageId")}, tags: "Tags"},
	"CreateWorkspaceBundle":                {on: []on{bundle.any(), image.at("ImageId")}, tags: "Tags", also: []also{{action: "workspaces:CreateTags", when: "Tags"}}},
	"CreateWorkspaceImage":                 {on: []on{workspace.at("WorkspaceId")}, tags: "Tags"},
	"CreateWorkspaces":                     {items: "Workspaces", on: []on{directory.at("DirectoryId"), bundle.at("BundleId"), workspace.any()}, tags: "Tags"},
	"CreateWorkspacesPool":                 {on: []on{bundle.at("BundleId"), directory.at("DirectoryId"), pool.any()}, tags: "Tags"},
	"DeleteAccountLinkInvitation":          {},
	"DeleteClientBranding":                 {on: []on{directory.at("ResourceId")}},
	"DeleteConnectClientAddIn":             {on: []on{directory.at("ResourceId")}},
	"DeleteConnectionAlias":                {on: []on{alias.at("AliasId")}},
	"DeleteIpGroup":                        {on: []on{ipGroup.at("GroupId")}},
	"DeleteTags":                           {tagKeys: "TagKeys"},
	"DeleteWorkspaceBundle":                {on: []on{bundle.at("BundleId")}},
	"DeleteWorkspaceImage":                 {on: []on{image.at("ImageId")}},
	"DeployWorkspaceApplications":          {on: []on{workspace.at("WorkspaceId")}},
	"DeregisterWorkspaceDirectory":         {on: []on{directory.at("DirectoryId")}},
	"DescribeAccount":                      {},
	"DescribeAccountModifications":         {},
	"DescribeApplicationAssociations":      {on: []on{application.at("ApplicationId")}},
	"DescribeApplications":                 {on: []on{application.any()}},
	"DescribeBundleAssociations":           {on: []on{bundle.at("BundleId")}},
	"DescribeClientBranding":               {on: []on{directory.at("ResourceId")}},
	"DescribeClientProperties":             {on: []on{directory.at("ResourceIds")}},
	"DescribeConnectClientAddIns":          {on: []on{directory.at("ResourceId")}},
	"DescribeConnectionAliasPermissions":   {on: []on{alias.at("AliasId")}},
	"DescribeConnectionAliases":            {on: []on{alias.any()}},
	"DescribeCustomWorkspaceImageImport":   {on: []on{image.any()}},
	"DescribeImageAssociations":            {on: []on{image.at("ImageId")}},
	"DescribeIpGroups":                     {on: []on{ipGroup.at("GroupIds")}},
	"DescribeTags":                         {},
	"DescribeWorkspaceAssociations":        {on: []on{workspace.at("WorkspaceId")}},
	"DescribeWorkspaceBundles":             {on: []on{bundle.any()}},
	"DescribeWorkspaceDirectories":         {on: []on{directory.any()}},
	"DescribeWorkspaceImagePermissions":    {on: []on{image.at("ImageId")}},
	"DescribeWorkspaceImages":              {on: []on{image.any()}},
	"DescribeWorkspaceSnapshots":           {on: []on{workspace.at("WorkspaceId")}},
	"DescribeWorkspaces":                   {on: []on{workspace.any()}},
	"DescribeWorkspacesConnectionStatus":   {on: []on{workspace.any()}},
	"DescribeWorkspacesPoolSessions":       {on: []on{pool.at("PoolId")}},
	"DescribeWorkspacesPools":              {on: []on{pool.any()}},
	"DisassociateConnectionAlias":          {on: []on{alias.at("AliasId")}},
	"DisassociateIpGroups":                 {on: []on{directory.at("DirectoryId"), ipGroup.at("GroupIds")}},
	"DisassociateWorkspaceApplication":     {on: []on{application.at("ApplicationId"), workspace.at("WorkspaceId")}},
	"GetAccountLink":                       {},
	"ImportClientBranding":                 {on: []on{directory.at("ResourceId")}},
	"ImportCustomWorkspaceImage":           {on: []on{image.any()}, tags: "Tags"},
	"ImportWorkspaceImage":                 {on: []on{image.any()}, tags: "Tags"},
	"ListAccountLinks":                     {},
	"ListAvailableManagementCidrRanges":    {},
	"MigrateWorkspace":                     {on: []on{bundle.at("BundleId"), workspace.at("SourceWorkspaceId")}},
	"ModifyAccount":                        {},
	"ModifyCertificateBasedAuthProperties": {on: []on{directory.at("ResourceId")}},
	"ModifyClientProperties":               {on: []on{directory.at("ResourceId")}},
	"ModifyEndpointEncryptionMode":         {on: []on{directory.at("DirectoryId")}},
	"ModifySamlProperties":                 {on: []on{directory.at("ResourceId")}},
	"ModifySelfservicePermissions":         {on: []on{directory.at("ResourceId")}},
	"ModifyStreamingProperties":            {on: []on{directory.at("ResourceId")}},
	"ModifyWorkspaceAccessProperties":      {on: []on{directory.at("ResourceId")}},
	"ModifyWorkspaceCreationProperties":    {on: []on{directory.at("ResourceId")}},
	"ModifyWorkspaceProperties":            {on: []on{workspace.at("WorkspaceId")}},
	"ModifyWorkspaceState":                 {on: []on{workspace.at("WorkspaceId")}},
	"RebootWorkspaces":                     {on: []on{workspace.at("RebootWorkspaceRequests.WorkspaceId")}},
	"RebuildWorkspaces":                    {on: []on{workspace.at("RebuildWorkspaceRequests.WorkspaceId")}},
	"RegisterWorkspaceDirectory":           {on: []on{directory.at("DirectoryId")}, tags: "Tags"},
	"RejectAccountLinkInvitation":          {},
	"RestoreWorkspace":                     {on: []on{workspace.at("WorkspaceId")}},
	"RevokeIpRules":                        {on: []on{ipGroup.at("GroupId")}},
	"StartWorkspaces":                      {on: []on{workspace.at("StartWorkspaceRequests.WorkspaceId")}},
	"StartWorkspacesPool":                  {on: []on{pool.at("PoolId")}},
	"StopWorkspaces":                       {on: []on{workspace.at("StopWorkspaceRequests.WorkspaceId")}},
	"StopWorkspacesPool":                   {on: []on{pool.at("PoolId")}},
	"TerminateWorkspaces":                  {on: []on{workspace.at("TerminateWorkspaceRequests.WorkspaceId")}},
	"TerminateWorkspacesPool":              {on: []on{pool.at("PoolId")}},
	"TerminateWorkspacesPoolSession":       {on: []on{pool.any()}},
	"UpdateConnectClientAddIn":             {on: []on{directory.at("ResourceId")}},
	"UpdateConnectionAliasPermission":      {on: []on{alias.at("AliasId")}},
	"UpdateRulesOfIpGroup":                 {on: []on{ipGroup.at("GroupId")}},
	"UpdateWorkspaceBundle":                {on: []on{bundle.at("BundleId"), image.at("ImageId")}},
	"UpdateWorkspaceImagePermission":       {on: []on{image.at("ImageId")}},
	"UpdateWorkspacesPool":                 {on: []on{pool.at("PoolId")}},
}
