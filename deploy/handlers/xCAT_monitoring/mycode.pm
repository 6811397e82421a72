# Writes down what became of rows: a sample of a handler as a Perl module.
package xCAT_monitoring::mycode;

use strict;
use warnings;

# Called with: a, u or d; the table; the old rows (the first is the names of the columns; none for new rows); the new
# values by column (keys and what was changed; empty for removed rows).
sub processTableChanges {
    my ($action, $table, $old, $new) = @_;
    my $file = '/var/log/mycode.log';
    open my $log, '>>', $file or die "$file: $!\n";
    print $log "$ENV{MARGAY_DELIVERY} $action $table\n";
    foreach my $row (@$old) {
        print $log '    old: ', join(',', map { defined $_ ? $_ : '' } @$row), "\n";
    }
    print $log "    new: $_=$new->{$_}\n" foreach sort keys %$new;
    close $log or die "$file: $!\n";
    return 0;
}

1;
