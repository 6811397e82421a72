# A monitoring plug-in as a Perl module. Copy it to the master's folder of plug-ins (margayd.toml, [monitor] plugins) or
# to /opt/xcat/lib/perl/xCAT_monitoring under the plug-in's name, rename the package, and register it:
# monadd NAME [-n] [-s key=value]; monstart NAME
#
# Functions are called with a reference to the names of nodes (none: all), the scope (0: this machine; 2: the nodes,
# too) and a callback for lines to be shown: $callback->({data => ['text']}). They return (code, text); 0 is success.
# What is printed is shown, too. Each call is a process of its own with a deadline.
package xCAT_monitoring::perltemplatemon;
use strict;
use warnings;

# Start the monitoring software. It may run already.
sub start {
    my ($nodes, $scope, $callback) = @_;
    return (0, 'started');
}

# Stop it.
sub stop {
    my ($nodes, $scope, $callback) = @_;
    return (0, 'stopped');
}

# Whether it can keep nodelist.status.
sub supportNodeStatusMon { return 1 }

# Begin to keep it.
sub startNodeStatusMon {
    my ($nodes, $scope, $callback) = @_;
    return (0, '');
}

# End it.
sub stopNodeStatusMon {
    my ($nodes, $scope, $callback) = @_;
    return (0, '');
}

# These nodes are new.
sub addNodes {
    my ($nodes) = @_;
    return (0, '');
}

# These nodes are gone.
sub removeNodes {
    my ($nodes) = @_;
    return (0, '');
}

# Not asked for by every plug-in: moncfg, mondecfg, changed rows of monsetting, and monls -d.
sub config   { return (0, '') }
sub deconfig { return (0, '') }

sub processSettingChanges {
    my %settings = xCAT_monitoring::monitorctrl->getPluginSettings('perltemplatemon');
    return 0;
}

sub getDescription { return "  A template.\n  Settings: none.\n" }

1;
